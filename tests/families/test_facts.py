"""What families of packed and split sequences rest on: without any one of these, the stock model disagrees."""

import pytest
import torch

import vsf
from families.harness import STRONG, Case, difference
from families.models import tiny_cosmos, tiny_flux3, tiny_minimax_h3
from vsf.families.base.family import Role
from vsf.families.flux3 import Flux3
from vsf.families.minimax_h3 import MiniMaxH3


def disagreement(case):
    """How far the guided denoiser is from two stock models in lockstep."""
    text, negative = case.text(), case.text(case.negative, seed=100)
    with vsf.guide(model := case.model(), negative=vsf.Negative((negative[0],)), method=STRONG):
        guided = case.run(model, text)
    return difference(guided, case.oracle(text, negative, STRONG))


def altered(monkeypatch, family, alter):
    """Let a family's injection be altered: alter(arguments, number of the negatives' rows)."""
    inject = family.inject

    def other(self, denoiser, arguments, negative, layout):
        injection = inject(self, denoiser, arguments, negative, layout)
        alter(injection.arguments, negative.embeddings.shape[1])
        return injection

    monkeypatch.setattr(family, "inject", other)


def later(arguments, added):
    arguments["position_ids"][:added, 0] += 12


def as_video(arguments, added):
    arguments["token_tags"][:added] = tiny_minimax_h3.VIDEO


def at_the_level_of_sound(arguments, added):
    arguments["timestep_indices"] = arguments["timestep_indices"].clone()
    arguments["timestep_indices"][:added] = 0


@pytest.mark.parametrize("alter", [later, as_video, at_the_level_of_sound])
def test_minimax_h3_rests_on_what_its_rows_are_told_to_be(monkeypatch, alter):
    altered(monkeypatch, MiniMaxH3, alter)
    assert disagreement(tiny_minimax_h3.CASES[0]) > 1e-4


@pytest.mark.parametrize(("family", "case"), [(MiniMaxH3, tiny_minimax_h3.CASES[0]), (Flux3, tiny_flux3.CASES[0])])
def test_texts_do_not_see_each_other_where_they_are_refined(monkeypatch, family, case):
    joint = [entry for entry in family.roles if entry[1] == Role("joint", image="last")]
    monkeypatch.setattr(family, "roles", tuple(joint))
    assert disagreement(case) > 1e-4


def test_the_positions_of_flux3_count_each_text_anew(monkeypatch):
    monkeypatch.setattr(Flux3, "counting", ())
    assert disagreement(tiny_flux3.CASES[0]) > 1e-4


def test_the_grid_of_flux3_counts_positions_that_lie_half_a_unit_apart():
    case = tiny_flux3.CASES[0]
    assert vsf.families.FAMILIES["flux3"].grid(None, case.inputs(case.text())).tokens == 24


def test_the_image_of_cosmos_transfer_is_told_from_the_text_where_both_are_as_long():
    stock = tiny_cosmos.CASES[2]
    both = stock.positive + stock.negative

    def inputs(text):
        return tiny_cosmos.transfer_inputs(text, both)

    case = Case("cosmos", stock.model, inputs, stock.channels, stock.layers, stock.grid)
    assert disagreement(case) <= 1e-6


@pytest.mark.parametrize("filled", ["cosmos 2.5", "flux3"])
def test_filling_changes_no_token_of_a_chat_before_it(filled):
    if filled == "flux3":
        from diffusers.modular_pipelines.flux3.encoders import Flux3TextEncoderStep

        pipe = tiny_flux3.distilled()
        read = Flux3TextEncoderStep._get_qwen3_vl_prompt_embeds
        with torch.no_grad():
            rows = read(pipe.text_encoder, pipe.tokenizer, "wheels", pad_multiple=80)[0]
    else:
        pipe = tiny_cosmos.chat_pipeline()
        with torch.no_grad():
            rows = pipe.encode_prompt("wheels", do_classifier_free_guidance=False, max_sequence_length=32)[0][0]
    (alone,) = vsf.encode(pipe, "wheels").embeddings
    assert len(rows) > len(alone)
    torch.testing.assert_close(rows[: len(alone)], alone, rtol=0, atol=5e-6)


def test_zeros_behind_the_text_of_cosmos_take_part_in_the_attention():
    case = tiny_cosmos.CASES[0]
    model, text = case.model(), case.text()
    filled = torch.cat([text, torch.zeros(1, 4, case.channels)], 1)
    assert difference(case.run(model, filled), case.run(model, text)) > 1e-4
