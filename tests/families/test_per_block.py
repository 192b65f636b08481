"""What is special to the families whose negatives are passed from block to block."""

import pytest
import torch

import vsf
from families.harness import OFF, STRONG, DenoiserRows, difference
from families.models import tiny_per_block as tiny
from families.models import tiny_per_block_pipelines as pipelines
from vsf.families.base.branches import Branches


def ragged(model, inputs, negative, method=STRONG):
    with torch.no_grad(), vsf.guide(model, negative=negative, method=method):
        return model(**inputs, return_dict=False)[0]


def texts(*lengths, channels):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(length, channels, generator=generator) for length in lengths]


def negatives(*lengths, channels):
    return vsf.Negative(tuple(torch.randn(length, channels) for length in lengths))


def row_of(inputs, row):
    return {name: value[row : row + 1] for name, value in inputs.items()}


def zimage_rows(*lengths):
    """Captions that are filled up to different multiples of 32, so that images stand at different places."""
    return {**tiny.zimage_inputs(torch.zeros(len(lengths), 1, 16)), "cap_feats": texts(*lengths, channels=16)}


def lumina2_rows(*lengths):
    rows = tiny.lumina2_inputs(torch.zeros(len(lengths), max(lengths), 24))
    for row, text in enumerate(texts(*lengths, channels=24)):
        rows["encoder_hidden_states"][row, : len(text)] = text
        rows["encoder_attention_mask"][row] = torch.arange(max(lengths) + 2) < len(text)
    return rows


@pytest.mark.parametrize(
    ("model", "rows", "channels"), [(tiny.zimage(), zimage_rows, 16), (tiny.lumina2(), lumina2_rows, 24)]
)
def test_prompts_of_different_length_in_a_batch_are_what_each_is_alone(model, rows, channels):
    inputs, negative = rows(12, 40, 33), negatives(7, 0, 3, channels=channels)
    together = ragged(model, inputs, negative)
    for row in range(3):
        own = vsf.Negative((negative.embeddings[row],))
        assert difference(together[row], ragged(model, row_of(inputs, row), own)[0]) <= 1e-5
    with torch.no_grad():
        plain = model(**inputs, return_dict=False)[0]
    assert torch.equal(together[1], plain[1])
    off = ragged(model, inputs, negative, OFF)
    assert all(torch.equal(*pair) for pair in zip(off, plain, strict=True))


def test_after_cfg_truncation_the_conditional_rows_of_zimage_come_alone_and_are_guided():
    pipe = pipelines.zimage_pipeline()
    settings = {**pipelines.Z_IMAGE, "guidance_scale": 3.0, "cfg_truncation": 0.3, "prompt": ["a red car", "a hat"]}
    recorder = DenoiserRows(pipe.transformer)
    with vsf.guide(pipe, ["wheels", ""], method=STRONG) as report:
        pipe(**settings, generator=torch.Generator().manual_seed(0))
    assert len(recorder.rows) == 4 + 2
    assert report.steps == 2


def test_the_report_has_the_layers_behind_the_refiners_alone():
    pipe = pipelines.zimage_pipeline()
    with vsf.guide(pipe, "wheels") as report:
        assert report.layers == ("layers.0.attention", "layers.1.attention")


def test_guiders_name_their_unconditional_call():
    branches = Branches()

    def original(*_):
        return torch.no_grad()

    found = {}
    for name in ("pred_cond", "pred_uncond", "pred_cond_skip"):
        with branches.cache_context(original, None, name):
            found[name] = branches.is_unconditional({"timestep": torch.zeros(1)}, torch.zeros(1, 1, 1))
    assert found == {"pred_cond": False, "pred_uncond": True, "pred_cond_skip": False}


def test_the_negatives_are_embedded_when_the_blocks_run_and_not_before():
    """A model whose weights are brought in by its forward has none of them earlier."""
    model, seen = tiny.hunyuan_video(), []
    model.context_embedder.register_forward_hook(lambda *_: seen.append("embedded"))
    model.register_forward_pre_hook(lambda *_: seen.append("weights are there"))
    with torch.no_grad(), vsf.guide(model, negative=negatives(7, channels=16)):
        model(**tiny.hunyuan_video_inputs(torch.zeros(1, 12, 16)), return_dict=False)
    assert seen == ["weights are there", "embedded", "embedded"]
