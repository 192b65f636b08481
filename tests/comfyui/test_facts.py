"""Every fact about a model is load-bearing: without it the reference in lockstep notices."""

import dataclasses

import pytest
import torch
from vsf_comfyui import families, negative

from comfyui.cases import distance
from comfyui.guiding import FLIP, call_once, guided, prepared
from comfyui.hosts import NO_HOST, REAL, STUB, host_module, model_names
from comfyui.tied import tied_call
from vsf.errors import NotGuidedError

_FILL, _REFINE = families.FAMILIES["NextDiT"].corrections
FACTS = [
    ("flux-schnell", STUB, {"corrections": ()}),
    ("flux2", STUB, {"corrections": ()}),
    ("flux2", REAL, {"corrections": ()}),
    ("qwen-image", REAL, {"corrections": ()}),
    ("sd3", STUB, {"corrections": ()}),
    ("sd3", STUB, {"counts_image": False}),
    ("sd3.5-medium", REAL, {"counts_image": False}),
    ("sd3", STUB, {"kind": "cross"}),
    ("sd3", REAL, {"kind": "cross"}),
    ("lumina2", STUB, {"corrections": (_FILL,)}),
    ("lumina2", REAL, {"corrections": (_FILL,)}),
    ("lumina2", STUB, {"corrections": (_REFINE,)}),
    ("lumina2", REAL, {"corrections": (_REFINE,)}),
    ("z-image", STUB, {"corrections": (_REFINE,)}),
    ("z-image", REAL, {"corrections": (_REFINE,)}),
    ("hunyuan-video", STUB, {"corrections": ()}),
    ("hunyuan-video", REAL, {"corrections": ()}),
    ("hunyuan-video", STUB, {"image_first": lambda denoiser: False}),
    ("hunyuan-video", REAL, {"image_first": lambda denoiser: not families._hunyuan_image_first(denoiser)}),
    ("krea2", REAL, {"corrections": ()}),
    ("wan-t2v", STUB, {"kind": "joint"}),
    ("wan-t2v", REAL, {"kind": "joint"}),
]


def names(value) -> str:
    """Return the name of the fact that is changed."""
    return "+".join(value) if isinstance(value, dict) else str(value)


def error_with(patcher, case) -> float:
    """Return the distance of one guided call from the reference."""
    x = case.latents(5)
    t = torch.full((1,), case.time)
    text, conds = prepared(patcher.model, case, case.conditioning(6, 2), x)
    other, _ = prepared(patcher.model, case, case.conditioning(6, 3), x)
    expected = tied_call(patcher.model, case, x, t, text, other, FLIP, conds)
    return distance(call_once(guided(patcher, case.conditioning(6, 3)), x, t, text, conds), expected)


@pytest.fixture
def as_the_reference(monkeypatch):
    """Keep the padding that the model puts before negatives, as the rows of the reference do."""

    def whole(model, tokens, extra, latents):
        return negative.Encoded(negative._prepare(model, tokens, extra, latents)[0], 0, None, 1.0)

    monkeypatch.setattr(negative, "_encode", whole)


@pytest.mark.parametrize(("name", "where", "change"), FACTS, ids=names)
@torch.no_grad()
def test_without_it_guidance_is_wrong_or_refused(name, where, change, monkeypatch, as_the_reference):
    if name not in model_names(where):
        pytest.skip(NO_HOST if where == REAL and not model_names(REAL) else f"this host has no {name}")
    patcher, case = host_module(where).make(name)
    assert error_with(patcher, case) <= 1e-6
    class_name = type(patcher.model.diffusion_model).__name__
    wrong = dataclasses.replace(families.FAMILIES[class_name], **change)
    monkeypatch.setattr(families, "FAMILIES", {class_name: wrong})
    try:
        error = error_with(patcher, case)
    except (NotGuidedError, RuntimeError):  # it is noticed at once
        return
    assert error > 1e-4


@pytest.mark.parametrize("where", [STUB, REAL])
@torch.no_grad()
def test_without_counting_a_z_image_filling_as_shared_it_is_guided_like_the_image(where, monkeypatch, as_the_reference):
    if "z-image" not in model_names(where):
        pytest.skip(NO_HOST if where == REAL and not model_names(REAL) else "this host has no Z-Image")
    patcher, case = host_module(where).make("z-image")
    spans = families.Family.spans

    def without_filling(self, denoiser, texts, grid):
        *text, image, filling = spans(self, denoiser, texts, grid)
        return (*text, dataclasses.replace(image, length=image.length + filling.length))

    monkeypatch.setattr(families.Family, "spans", without_filling)
    assert error_with(patcher, case) > 1e-4


@pytest.mark.parametrize("where", [STUB, REAL])
@torch.no_grad()
def test_without_hidden_tokens_a_text_as_long_as_the_picture_is_taken_for_it(where, monkeypatch):
    if where not in {name for name in (STUB, REAL) if model_names(name)}:
        pytest.skip(NO_HOST)
    host = host_module(where)
    patcher, case = host.make("wan-t2v")
    positive = case.conditioning(case.image - 5, 2)
    other = case.conditioning(5, 3)
    expected = host.sample(guided(patcher, other), case, positive)
    monkeypatch.setattr(families.Family, "hidden_tokens", lambda self, grid, text: 0)
    assert distance(host.sample(guided(patcher, other), case, positive), expected) > 1e-4
