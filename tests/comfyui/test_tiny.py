"""The embedded model draws in ComfyUI what `vsf generate` draws, to one grey level: the whole way in one test.

Loader, text encoders, padding, sampler, override, schedule, core and decoder all take part.
"""

import numpy as np
import pytest
import torch

import vsf

PROMPT = "a red car on snow"
SEED = 1
CASES = {
    "unguided": ("none", {}, {}),
    "vsf": ("vsf", {"scale": 4.0}, {}),
    "vsf orthogonal": ("vsf", {"scale": 4.0, "offset": -0.5, "orthogonal": True}, {}),
    "vsf centred": ("vsf-centred", {"scale": 6.0, "offset": 0.5}, {}),
    "vsf stripped": ("vsf", {"scale": 4.0, "special_tokens": "strip"}, {}),
    "vsf auto": ("vsf", {"scale": "auto"}, {}),
    "nag": ("nag", {"scale": 9.0, "tau": 5.0, "alpha": 0.5}, {}),
    "nag l2": ("nag", {"scale": 9.0, "tau": 5.0, "alpha": 0.5, "norm": "l2"}, {}),
    "nasa": ("nasa", {"scale": 0.5}, {}),
    "ong": ("ong", {"scale": 1.0}, {}),
    "negpip": ("negpip", {"scale": 2.0}, {}),
    "schedule": ("vsf", {"scale": 4.0}, {"start": 0.2, "end": 0.8, "curve": "cosine"}),
    "schedule over sigma": ("vsf", {"scale": 4.0}, {"end": 0.5, "over": "sigma"}),
    "blocks": ("vsf", {"scale": 4.0}, {"blocks": "0,2"}),
}
DEFAULTS = {
    "weight": 1.0,
    "start": 0.0,
    "end": 1.0,
    "curve": "constant",
    "over": "steps",
    "blocks": "",
    "observe": False,
}


@pytest.fixture(scope="module")
def nodes(real):
    """The nodes on the host, and the parts of the embedded model."""
    import vsf_comfyui.nodes as nodes

    return nodes, nodes.TinyModel.execute("tiny", 8).args


@pytest.fixture(scope="module")
def pipe():
    pytest.importorskip("diffusers")
    return vsf.tiny.load()


def knobs_of(method: str, knobs: dict) -> dict:
    """The inputs of the node's combo: the knobs, those that were not given at their defaults."""
    chosen = {"method": method}
    for knob in vsf.guidance.knobs(vsf.guidance.METHODS[method]):
        if knob.name == "layout":
            continue
        value = knobs.get(knob.name, knob.default)
        chosen[knob.name] = knob.default if value == "auto" else value
        if knob.takes_auto:
            chosen[f"{knob.name}_auto"] = value == "auto"
    return chosen


def drawn_by_comfyui(nodes, method, knobs, inputs, negative="wheels", within="", mask=None) -> np.ndarray:
    """What a workflow with these inputs saves, and the report on it."""
    import comfy.sample
    import comfy.samplers

    nodes, (model, clip, vae, sigmas) = nodes
    positive = clip.encode_from_tokens_scheduled(clip.tokenize(PROMPT))
    encoded = nodes.EncodeNegative.execute(clip, negative, within).args[0]
    if method != "none":
        inputs = {**DEFAULTS, **inputs}
        model, _ = nodes.Guidance.execute(model, encoded, knobs_of(method, knobs), mask=mask, **inputs).args
    latents = torch.zeros(1, 16, *(2 * [64 // 8]))
    noise = comfy.sample.prepare_noise(latents, SEED)
    euler = comfy.samplers.sampler_object("euler")
    samples = comfy.sample.sample_custom(
        model, noise, 1.0, euler, sigmas, positive, encoded, latents, disable_pbar=True, seed=SEED
    )
    return (vae.decode(samples)[0] * 255).clamp(0, 255).numpy()


def drawn_by_vsf(pipe, method, knobs, inputs, negative="wheels", **more) -> np.ndarray:
    """What `vsf generate` draws."""
    schedule = {"layers" if name == "blocks" else name: value for name, value in inputs.items()}
    request = vsf.Request(
        PROMPT, negative="" if method == "none" else negative, method=method, knobs=knobs, schedule=schedule,
        steps=8, seed=SEED, **more,
    )  # fmt: skip
    (result,) = vsf.generate(request, pipe=pipe)
    return np.asarray(result.image).astype(np.float32)


def levels_apart(ours: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference in grey levels; ComfyUI rounds down, diffusers to the nearest."""
    return float(np.abs(np.floor(ours) - expected).max())


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_it_draws_what_vsf_generate_draws(nodes, pipe, case):
    method, knobs, inputs = CASES[case]
    ours = drawn_by_comfyui(nodes, method, knobs, inputs)
    assert levels_apart(ours, drawn_by_vsf(pipe, method, knobs, inputs)) <= 1
    if method != "none":
        assert levels_apart(ours, drawn_by_vsf(pipe, "none", {}, {})) > 20, "the negative did nothing"


@torch.no_grad()
def test_weights_of_several_lines_and_a_context_mean_the_same(nodes, pipe):
    ours = drawn_by_comfyui(nodes, "vsf", {"scale": 4.0}, {}, "wheels\n(snow:0.5)")
    expected = drawn_by_vsf(pipe, "vsf", {"scale": 4.0}, {}, {"wheels": 1.0, "snow": 0.5})
    assert levels_apart(ours, expected) <= 1
    ours = drawn_by_comfyui(nodes, "vsf", {"scale": 4.0}, {}, within="a red car with {}")
    expected = drawn_by_vsf(pipe, "vsf", {"scale": 4.0}, {}, within="a red car with {}")
    assert levels_apart(ours, expected) <= 1


@torch.no_grad()
def test_a_mask_means_the_same(nodes, pipe):
    mask = torch.zeros(1, 64, 64)
    mask[:, :, :32] = 1
    ours = drawn_by_comfyui(nodes, "vsf", {"scale": 4.0}, {}, mask=mask)
    assert levels_apart(ours, drawn_by_vsf(pipe, "vsf", {"scale": 4.0}, {}, mask=(0.0, 0.0, 0.5, 1.0))) <= 1


@torch.no_grad()
def test_its_autoencoder_is_that_of_diffusers(nodes, pipe):
    _, (_, _, vae, _) = nodes
    pixels = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(3))
    latents = pipe.vae.encode(pixels.movedim(-1, 1) * 2 - 1).latents * pipe.vae.config.scaling_factor
    assert torch.allclose(vae.encode(pixels), vae.latent_format.process_out(latents), atol=1e-4)


@torch.no_grad()
def test_its_teacher_draws_under_classifier_free_guidance_what_it_draws_in_diffusers(nodes):
    import comfy.sample
    import comfy.samplers

    nodes, _ = nodes
    model, clip, vae, sigmas = nodes.TinyModel.execute("tiny-base", 6).args
    positive, negative = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (PROMPT, "wheels"))
    noise = comfy.sample.prepare_noise(torch.zeros(1, 16, 8, 8), SEED)
    euler = comfy.samplers.sampler_object("euler")
    samples = comfy.sample.sample_custom(
        model, noise, 4.0, euler, sigmas, positive, negative, torch.zeros(1, 16, 8, 8), disable_pbar=True, seed=SEED
    )
    ours = (vae.decode(samples)[0] * 255).clamp(0, 255).numpy()
    pipe = vsf.tiny.load("tiny-base")
    generator = torch.Generator().manual_seed(SEED)
    theirs = pipe(PROMPT, negative_prompt="wheels", num_inference_steps=6, guidance_scale=4.0, generator=generator)
    assert levels_apart(ours, np.asarray(theirs.images[0]).astype(np.float32)) <= 1
