"""Textual inversions of several vectors in a negative prompt: as many tokens as the pipeline makes of them."""

import pytest
import torch

import vsf
from families.harness import call, difference
from families.models import tiny_flux, tiny_joint, tiny_unet
from support import tiny_pipelines as tiny
from vsf.families import find_family

NAME = "easynegative"
READ = " ".join([NAME, *(f"{NAME}_{number}" for number in range(1, 8))])
"""What diffusers makes of the name before a tokenizer reads it."""


def add_vectors(pipe, number=""):
    """Give one tokenizer of a pipeline, and its encoder, a textual inversion of eight vectors."""
    tokenizer, encoder = (getattr(pipe, f"{part}{number}") for part in ("tokenizer", "text_encoder"))
    table = encoder.get_input_embeddings()
    generator = torch.Generator().manual_seed(5)
    vectors = torch.randn(8, table.embedding_dim, generator=generator) * table.weight.std()
    encoder.resize_token_embeddings(len(tokenizer))
    pipe.load_textual_inversion({NAME: vectors}, token=NAME, tokenizer=tokenizer, text_encoder=encoder)
    return pipe


def stable_diffusion():
    return add_vectors(tiny_unet.pipeline())


def sdxl():
    return add_vectors(add_vectors(tiny_unet.pipeline_xl()), "_2")


def flux():
    return add_vectors(tiny_flux.pipeline(), "_2")


def chroma():
    return add_vectors(tiny_joint.chroma_pipeline())


PIPELINES = {
    "stable diffusion": (stable_diffusion, tiny_unet.unpadded),
    "sdxl": (sdxl, tiny_unet.unpadded_xl),
    "flux": (flux, tiny_flux.unpadded_t5),
    "chroma": (chroma, tiny_joint.unpadded_t5),
}


@pytest.mark.parametrize("name", PIPELINES)
@torch.no_grad()
def test_every_vector_and_every_word_behind_is_read(name):
    build, unpadded = PIPELINES[name]
    pipe = build()
    for text in (NAME, f"{NAME} ab", f"a {NAME} cd"):
        negative = vsf.encode(pipe, text)
        expected = unpadded(pipe, text.replace(NAME, READ))
        assert negative.lengths == (len(expected),)
        assert difference(negative.embeddings[0], expected) <= 1e-5
        assert int((~negative.special[0]).sum()) >= 8


@pytest.mark.parametrize("name", PIPELINES)
def test_words_behind_an_inversion_make_a_difference(name):
    pipe = PIPELINES[name][0]()
    one, other = (vsf.encode(pipe, f"{NAME} {word}").embeddings[0] for word in ("ab", "cd"))
    assert difference(one, other) > 1e-3


@torch.no_grad()
def test_of_two_clips_one_may_know_the_inversion_and_the_other_spell_it():
    pipe = add_vectors(tiny_unet.pipeline_xl())
    negative = vsf.encode(pipe, f"{NAME} ab")
    longest = len(pipe.tokenizer_2(f"{NAME} ab").input_ids)
    assert negative.lengths == (longest,)
    in_full = pipe.encode_prompt(f"{NAME} ab", device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    assert torch.equal(negative.embeddings[0], in_full[0][0, :longest])


@pytest.mark.parametrize("name", PIPELINES)
def test_all_vectors_stand_for_the_word_in_the_prompt(name):
    pipe = PIPELINES[name][0]()
    text = f"a {NAME} cd"
    characters = find_family(pipe).characters(pipe, text)
    in_word = [token for token in characters if 2 < token[1] <= 2 + len(NAME) and token[1] > token[0]]
    behind = [token for token in characters if token[1] > 2 + len(NAME)]
    assert len(in_word) >= 8
    assert {stop for _, stop in in_word} >= {2 + len(NAME)}
    assert max(stop for _, stop in behind) == len(text)


@pytest.mark.parametrize("name", PIPELINES)
def test_in_a_context_all_vectors_are_kept(name):
    pipe = PIPELINES[name][0]()
    whole, inside = vsf.encode(pipe, f"a {NAME} cd"), vsf.encode(pipe, NAME, within="a {} cd")
    words = (~inside.special[0]).sum()
    assert 8 <= words < (~whole.special[0]).sum()
    assert all((row == whole.embeddings[0]).all(1).any() for row in inside.embeddings[0])


def test_a_guided_picture_depends_on_the_words_behind_an_inversion():
    pipe = stable_diffusion()
    drawn = []
    for text in (f"{NAME} ab", f"{NAME} cd"):
        with vsf.guide(pipe, text, method=vsf.ValueSignFlip(scale=3)):
            drawn.append(call(pipe, "a red car", **tiny_unet.SETTINGS))
    assert difference(*drawn) > 1e-5


def test_words_of_the_prompt_can_be_weighed_beside_an_inversion():
    pipe = stable_diffusion()
    plain = call(pipe, f"{NAME} red", **tiny_unet.SETTINGS)
    with vsf.guide(pipe, vsf.Prompt.parse(f"{NAME} (red:2)")):
        assert difference(call(pipe, f"{NAME} red", **tiny_unet.SETTINGS), plain) > 1e-5


def test_sd3_reads_as_many_tokens_as_the_longer_of_its_clips_has():
    pipe = tiny.sd3(merges=[("r", "e"), ("re", "d</w>")])
    longest, shorter = (len(each("a red").input_ids) for each in (pipe.tokenizer, pipe.tokenizer_2))
    assert longest > shorter
    assert vsf.encode(pipe, "a red").lengths == (longest + len(pipe.tokenizer_3("a red").input_ids),)
