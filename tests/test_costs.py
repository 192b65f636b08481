"""What guidance costs without a clock: Python calls, launches, attention calls, and waiting for the device."""

import sys
from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import vsf
from families.harness import noise
from families.models import tiny_flux, tiny_qwen_image, tiny_wan
from support import tiny_pipelines as tiny
from vsf.text.embeddings import Share

ORTHOGONAL = vsf.ValueSignFlip(orthogonal=True)
ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"
WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "lift_fresh", "unique2", "masked_select")
"""Operations that read a number back, or (lift_fresh) bring one over: torch.tensor(...)."""


class Operations(TorchDispatchMode):
    """Counts operations, views left out."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if not function.is_view:
            self.counts[function.overloadpacket.__name__] += 1
        return function(*args, **(kwargs or {}))


def sd3(layers):
    inputs = {"encoder_hidden_states": noise(1, 5, 32), "pooled_projections": noise(1, 32)}
    inputs |= {"hidden_states": noise(1, 4, 8, 8), "timestep": torch.tensor([500.0])}
    return tiny.sd3(num_layers=layers, dual_attention_layers=()).transformer, inputs


def per_layer(measure, method):
    """Let what is measured in a denoiser call of eight layers, less that of four, be spread over four."""
    eight, four = (measure(*sd3(layers), method) for layers in (8, 4))
    return (eight - four) / 4


@torch.no_grad()
def launches(model, inputs, method, counted=None):
    def count():
        with Operations() as operations:
            model(**inputs)
        return operations.counts

    model(**inputs)
    before = count()
    with vsf.guide(model, negative=vsf.Negative((noise(3, 32),)), method=method):
        model(**inputs)
        after = count()
    return sum(after.values()) - sum(before.values()) if counted is None else after[counted]


@torch.no_grad()
def python_calls(model, inputs, method):
    """Calls into the package during the attention calls of the host, what is made for all layers included."""
    count, depth = 0, 0

    def profile(frame, event, _):
        nonlocal count, depth
        name = frame.f_globals.get("__name__", "")
        hook = name == "vsf.patching.processor_twins" and frame.f_code.co_name == "attention"
        if event == "call":
            depth += hook
            count += depth > 0 and name.startswith("vsf")
        elif event == "return":
            depth -= hook

    with vsf.guide(model, negative=vsf.Negative((noise(3, 32),)), method=method):
        model(**inputs)
        sys.setprofile(profile)
        try:
            model(**inputs)
        finally:
            sys.setprofile(None)
    return count


@pytest.mark.parametrize(("method", "most"), [("vsf", 40), ("nag", 60)])
def test_a_guided_attention_call_makes_few_calls_into_the_package(method, most):
    assert 10 < per_layer(python_calls, method) <= most


@pytest.mark.parametrize(
    ("method", "most"), [("vsf", 20), (ORTHOGONAL, 25), ("vsf-centred", 25), ("nag", 30), ("nasa", 20), ("ong", 25)]
)
def test_a_guided_joint_layer_launches_few_operations(method, most):
    assert 0 < per_layer(launches, method) <= most


@pytest.mark.parametrize("method", ["vsf", ORTHOGONAL], ids=str)
def test_value_sign_flip_attends_over_the_image_once(method):
    def over_image(model, inputs, method):
        rows = []

        class Rows(TorchDispatchMode):
            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                if function.overloadpacket.__name__ == ATTENTION:
                    rows.append((args[0].shape[2], args[1].shape[2]))
                return function(*args, **(kwargs or {}))

        negative = vsf.Negative((noise(3, 32),))
        with torch.no_grad(), vsf.guide(model, negative=negative, method=method), Rows():
            model(**inputs)
        return len([0 for queries, keys in rows if keys >= 64])

    # the host's call, and the negatives' own few rows; what image rows see of the negatives are three keys
    assert per_layer(over_image, method) == 2
    assert per_layer(lambda *case: launches(*case, counted=ATTENTION), method) == 3


def flux():
    model, inputs = tiny_flux.transformer(), tiny_flux.inputs(noise(1, 5, 32))
    return model, inputs, 32


def qwen():
    case = tiny_qwen_image.CASES[0]
    return case.model(), case.inputs(case.text()), case.channels


def wan():
    case = tiny_wan.CASES[0]
    return case.model(), case.inputs(case.text()), case.channels


@pytest.mark.parametrize("method", ["vsf", "nag"])
@pytest.mark.parametrize("build", [lambda: (*sd3(2), 32), flux, qwen, wan], ids=["sd3", "flux", "qwen", "wan"])
@torch.no_grad()
def test_a_guided_step_waits_for_the_device_no_oftener_than_an_unguided_one(build, method):
    model, inputs, channels = build()
    with Operations() as unguided:
        model(**inputs)
    negatives = vsf.Negative((noise(5, channels),), shares=((Share(3, 0.5), Share(2, 1.5)),))
    with vsf.guide(model, negative=negatives, method=method, mask=(0, 0, 0.5, 1) if build is not flux else None):
        model(**inputs)
        with Operations() as guided:
            model(**inputs)
    assert {name: guided.counts[name] for name in WAITS} == {name: unguided.counts[name] for name in WAITS}


@torch.no_grad()
def test_negatives_are_laid_out_once_for_all_steps(monkeypatch):
    pipe, made, real = tiny.sd3(), [], vsf.Negative.rows
    monkeypatch.setattr(vsf.Negative, "rows", lambda *args, **options: made.append(1) or real(*args, **options))
    with vsf.guide(pipe, "wheels"):
        tiny.call(pipe, num_inference_steps=4)
    assert len(made) == 1


@pytest.mark.parametrize("build", [flux, qwen], ids=["flux", "qwen"])
@torch.no_grad()
def test_where_the_image_comes_behind_the_text_no_key_is_copied(build):
    """Every large tensor that attention gets is a view of one that the model made."""
    model, inputs, channels = build()
    with Operations() as unguided:
        model(**inputs)
    with vsf.guide(model, negative=vsf.Negative((noise(3, channels),)), method="vsf"):
        model(**inputs)
        with Operations() as guided:
            model(**inputs)
    layers = guided.counts[ATTENTION] // 3
    copies = {name: guided.counts[name] - unguided.counts[name] for name in ("index", "index_select", "cat", "clone")}
    assert copies["index"] == copies["index_select"] == 0
    assert copies["cat"] <= layers + 6  # rows put in order, and what is made once for all layers
