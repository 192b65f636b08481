"""Wan beyond what every family shows: two denoisers, image tokens, distillation LoRAs, the length of the clip."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

import vsf
from families.harness import OFF, STRONG, DenoiserRows, call, difference
from families.models import tiny_wan as tiny

SETTINGS = {**tiny.SETTINGS, **tiny.TEXT}
IMAGE_SETTINGS = {
    **tiny.SETTINGS,
    "guidance_scale": 1.0,
    "num_inference_steps": 1,
    "image": tiny.FRAME,
    "max_sequence_length": 512,
}


def run(pipe, **settings):
    return call(pipe, "a red car", **{**SETTINGS, **settings})


# Wan 2.2: a denoiser for the noisy steps, another one for the rest -------------------------------------------------


def test_both_denoisers_of_a_pipeline_are_guided():
    pipe = tiny.two_stages()
    high, low = DenoiserRows(pipe.transformer), DenoiserRows(pipe.transformer_2)
    run(pipe)
    plain_high, plain_low, high.rows, low.rows = high.rows, low.rows, [], []
    with vsf.guide(pipe, "wheels", method=STRONG) as report:
        run(pipe)
    assert report.steps == 2
    assert len(high.rows) == len(low.rows) == 1
    assert difference(high.rows[0], plain_high[0]) > 1e-4
    assert difference(low.rows[0], plain_low[0]) > 1e-4


def test_a_schedule_may_leave_one_of_the_denoisers_alone():
    pipe = tiny.two_stages()
    low = DenoiserRows(pipe.transformer_2)
    with vsf.guide(pipe, "wheels", method=STRONG, schedule=vsf.Schedule(end=0.5)) as report:
        run(pipe)
    assert (report.steps, report.skipped, len(low.rows)) == (1, 1, 1)


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (5, 2), (9, 3)])
def test_the_heat_map_has_a_picture_for_every_frame_of_the_latents(frames, latents):
    pipe = tiny.pipeline()
    with vsf.guide(pipe, "wheels", method=STRONG, observe=True) as report:
        video = pipe("a red car", **{**SETTINGS, "num_frames": frames}).frames
    assert video.shape == (1, 16, latents, 4, 6)
    assert report.heat_map().shape == ((latents, 2, 3) if latents > 1 else (2, 3))


# Video to video: the calls of classifier-free guidance have no names -----------------------------------------------


def test_unnamed_calls_are_told_apart_by_their_text():
    pipe = tiny.pipeline(tiny.WanVideoToVideoPipeline)
    settings = {"video": tiny.CLIP["video"], "guidance_scale": 3.0, "negative_prompt": "ugly", "num_inference_steps": 2}
    del (shared := {**SETTINGS, **settings})["num_frames"]
    recorder = DenoiserRows(pipe.transformer)
    call(pipe, "a red car", **shared)
    plain, recorder.rows = recorder.rows, []
    with vsf.guide(pipe, "wheels", method=STRONG) as report:
        call(pipe, "a red car", **shared)
    assert report.steps == len(plain) / 2
    assert [torch.equal(*pair) for pair in zip(recorder.rows[:2], plain[:2], strict=True)] == [False, True]


# Image to video: image tokens beside the text ---------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 2], ids=["first frame", "first and last frame"])
def test_as_many_image_tokens_as_text_tokens_are_not_taken_for_text(frames):
    tokens, sizes = 512 + 512, {"pos_embed_seq_len": 512 + 512} if frames == 2 else {}

    def inputs(text):
        image = tiny.image_inputs(text, tokens)["encoder_hidden_states_image"]
        return {**tiny.inputs(text), "encoder_hidden_states_image": image.reshape(frames * len(text), -1, 16)}

    case = replace(tiny.CASES[1], inputs=inputs, model=lambda: tiny.image_transformer(**sizes))
    model, text, negative = case.model(), case.text(), case.text(512, seed=100)
    with vsf.guide(model, negative=vsf.Negative((negative[0],)), method=STRONG) as report:
        guided = case.run(model, text)
    assert report.calls == len(report.layers)
    assert difference(guided, case.oracle(text, negative, STRONG)) <= 1e-6


@torch.no_grad()
def test_fused_projections_are_guided_alike():
    case = tiny.CASES[1]
    text, negative = case.text(), vsf.Negative((case.text(7, seed=100)[0],))
    model = case.model()
    with vsf.guide(model, negative=negative, method=STRONG):
        expected = case.run(model, text)
    model.fuse_qkv_projections()
    with vsf.guide(model, negative=negative, method=STRONG):
        assert difference(case.run(model, text), expected) <= 1e-5


# LoRAs that make Wan fast -----------------------------------------------------------------------------------------


def lora(path, style, image=False, rank=2):
    """Write a LoRA of every projection under the names that lightx2v ("down", "up") or CausVid ("A", "B") give them."""
    generator, weights = torch.Generator().manual_seed(5), {}
    names = [f"{part}.{letter}" for part in ("self_attn", "cross_attn") for letter in "qkvo"]
    sizes = dict.fromkeys(names, (24, 24)) | {"ffn.0": (24, 32), "ffn.2": (32, 24)}
    if image:
        sizes |= {"cross_attn.k_img": (24, 24), "cross_attn.v_img": (24, 24)}
    down, up = {"lightx2v": ("lora_down", "lora_up"), "CausVid": ("lora_A", "lora_B")}[style]
    for block in range(2):
        for name, (wide, out) in sizes.items():
            key = f"diffusion_model.blocks.{block}.{name}"
            weights[f"{key}.{down}.weight"] = 0.3 * torch.randn(rank, wide, generator=generator)
            weights[f"{key}.{up}.weight"] = 0.3 * torch.randn(out, rank, generator=generator)
            if style == "lightx2v":
                weights[f"{key}.diff_b"] = 0.1 * torch.randn(out, generator=generator)
                weights[f"{key}.alpha"] = torch.tensor(float(rank))
    save_file(weights, path / "lora.safetensors")
    return path


BUILDS = {"text to video": (tiny.pipeline, SETTINGS), "image to video": (tiny.image_pipeline, IMAGE_SETTINGS)}


@pytest.mark.parametrize(
    ("build", "style"),
    [("text to video", "lightx2v"), ("text to video", "CausVid"), ("image to video", "lightx2v")],
)
def test_a_lora_may_come_and_go_before_and_while_a_pipeline_is_guided(build, style, tmp_path):
    make, settings = BUILDS[build]
    pipe, path = make(), lora(tmp_path, style, image=build == "image to video")

    def guided(method=STRONG):
        with vsf.guide(pipe, "wheels", method=method):
            return run(pipe, **settings)

    base = guided()
    vsf.attach(pipe, method=STRONG)
    pipe.load_lora_weights(path, weight_name="lora.safetensors")
    while_guided = run(pipe, negative_prompt="wheels", **settings)
    vsf.detach(pipe)
    plain = run(pipe, **settings)
    assert torch.equal(guided(OFF), plain)
    with_lora = guided()
    assert torch.equal(while_guided, with_lora)
    assert difference(with_lora, plain) > 1e-4
    assert difference(with_lora, base) > 1e-4
    pipe.unload_lora_weights()
    assert torch.equal(guided(), base)
