"""One filler row in the place of 256 equal ones changes rounding alone."""

import pytest
import torch

import vsf
from vsf import tiny
from vsf.tiny.collapse_padding import collapse_padding

METHODS = [
    vsf.method("none"),
    vsf.method("vsf", scale=2.0),
    vsf.method("vsf", scale=2.0, orthogonal=True, special_tokens="strip"),
    vsf.method("vsf", scale=2.0, offset=0.1, layout="reference"),
    vsf.method("nag", scale=4.0),
    vsf.method("vsf-centred"),
    vsf.method("nasa"),
    vsf.method("ong"),
    vsf.method("negpip"),
    vsf.method("cfg", scale=3.0),
]
PROMPTS = ["a red car on snow", "a blue boat at the beach"]


@pytest.fixture(scope="module")
def plain():
    pipe = tiny.load()
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def collapsed():
    pipe = tiny.load()
    pipe.set_progress_bar_config(disable=True)
    collapse_padding(pipe)
    return pipe


def _draw(pipe, method, **arguments):
    with vsf.guide(pipe, ["wheels", "a sail"], method=method):
        noise = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        return pipe(PROMPTS, num_inference_steps=2, generator=noise, output_type="pt", **arguments).images


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_every_method_draws_the_same_picture_from_one_filler_row(plain, collapsed, method):
    before, after = (_draw(pipe, method, guidance_scale=0.0) for pipe in (plain, collapsed))
    assert (before - after).abs().max() < 1e-4


def test_the_hosts_own_guidance_draws_the_same_picture_from_one_filler_row(plain, collapsed):
    options = {"guidance_scale": 3.0, "negative_prompt": ["wheels", "a sail"]}
    before, after = (_draw(pipe, vsf.method("none"), **options) for pipe in (plain, collapsed))
    assert (before - after).abs().max() < 1e-4


def test_the_transformer_gets_the_words_and_one_row_more(collapsed):
    rows = collapsed.encode_prompt("a car", None, None, do_classifier_free_guidance=False)[0]
    assert rows.shape[1] == collapsed.tokenizer_max_length + 1
    assert not rows[:, -1].any()
    assert rows[:, :-1].any(-1).all()
