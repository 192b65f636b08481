"""U-Nets beyond what every family shows: which layers attend to the text, image prompts, and what is refused."""

import diffusers
import pytest
import torch

import vsf
from families.harness import STRONG, DenoiserRows, call, difference
from families.models import tiny_unet as tiny
from vsf.families import find_family

ASKED = {**tiny.SETTINGS, "num_inference_steps": 1}


def run(pipe, prompt="a red car", **settings):
    return call(pipe, prompt, **{**ASKED, **settings})


# Layers -----------------------------------------------------------------------------------------------------------


def test_only_layers_that_attend_to_the_text_are_guided():
    pipe = tiny.animatediff()
    names = find_family(pipe).attention_layers(pipe.unet)
    assert any("motion_modules" in name and name.endswith("attn2") for name, _ in pipe.unet.named_modules())
    assert not any("motion_modules" in name for name in names)
    assert all(name.endswith("attn2") for name in names)


def test_a_first_attention_that_attends_to_the_text_is_guided_too():
    unet = tiny.unet(only_cross_attention=True)
    names = find_family(unet).attention_layers(unet)
    assert {name.rpartition(".")[2] for name in names} == {"attn1", "attn2"}
    inputs = tiny.inputs(torch.randn(1, 12, 16))
    negative = vsf.Negative((torch.randn(7, 16),))
    with torch.no_grad(), vsf.guide(unet, negative=negative, method=STRONG) as report:
        unet(**inputs)
    assert report.calls == len(names)


def test_the_image_tokens_of_an_adapter_stay_as_they_are():
    pipe = tiny.with_image_prompt()
    embeds = {"ip_adapter_image_embeds": [torch.ones(1, 1, 8)]}
    with vsf.guide(pipe, "wheels", method=STRONG) as report:
        with_picture = run(pipe, **embeds)
    assert report.calls == len(report.layers)
    pipe.set_ip_adapter_scale(0.0)
    with vsf.guide(pipe, "wheels", method=STRONG):
        assert difference(run(pipe, **embeds), with_picture) > 1e-4


def test_rows_of_every_frame_belong_to_their_prompt():
    pipe, latents = tiny.animatediff(), torch.randn(2, 4, 3, 8, 16)
    negatives, alone = ["wheels", "an old tree"], []
    for row, negative in enumerate(negatives):
        with vsf.guide(pipe, negative, method=STRONG):
            alone.append(run(pipe, num_frames=3, latents=latents[row : row + 1]))
    with vsf.guide(pipe, negatives, method=STRONG):
        together = run(pipe, ["a red car", "a red car"], num_frames=3, latents=latents)
    assert difference(together, torch.cat(alone)) <= 1e-5


# Encoding ---------------------------------------------------------------------------------------------------------


def test_a_refiner_has_the_second_encoder_alone():
    pipe = tiny.pipeline_xl()
    expected = vsf.encode(pipe, "wheels").embeddings[0][:, 16:]
    pipe.tokenizer = pipe.text_encoder = None
    torch.testing.assert_close(vsf.encode(pipe, "wheels").embeddings[0], expected, rtol=0, atol=1e-6)


def test_one_tokenizer_may_serve_both_encoders():
    pipe = tiny.pipeline_xl()
    expected = vsf.encode(pipe, "ab")
    pipe.tokenizer_2 = pipe.tokenizer
    assert torch.equal(vsf.encode(pipe, "ab").embeddings[0], expected.embeddings[0])


# Rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [tiny.pipeline, tiny.pipeline_xl], ids=["sd", "sdxl"])
def test_three_rows_for_each_picture_are_refused(make):
    sdxl = make is tiny.pipeline_xl
    pipe = make(getattr(diffusers, f"StableDiffusion{'XL' * sdxl}InstructPix2PixPipeline"))
    with pytest.raises(vsf.UnsupportedPipelineError, match="three rows"), vsf.guide(pipe, "wheels"):
        pass


def test_the_rows_of_a_pipeline_that_does_not_tell_are_counted():
    pipe = tiny.upscaler()
    assert not hasattr(type(pipe), "do_classifier_free_guidance")
    recorder = DenoiserRows(pipe.unet)
    settings = {"image": tiny.PICTURE, "num_inference_steps": 1, "guidance_scale": 3.0, "output_type": "latent"}
    call(pipe, "a red car", **settings)
    plain, recorder.rows = recorder.rows, []
    with vsf.guide(pipe, "wheels", method=STRONG):
        call(pipe, "a red car", **settings)
    assert [torch.equal(*pair) for pair in zip(recorder.rows, plain, strict=True)] == [True, False]


# Refused ----------------------------------------------------------------------------------------------------------

SIMPLE = {
    "down_block_types": ("DownBlock2D", "SimpleCrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "UpBlock2D"),
}


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        (
            {**SIMPLE, "cross_attention_norm": "group_norm", "cross_attention_dim": 32},
            "normalises all text tokens together",
        ),
        (SIMPLE, "in one layer"),
        ({"addition_embed_type": "text", "encoder_hid_dim": 16}, "time embedding"),
        ({"encoder_hid_dim_type": "image_proj", "encoder_hid_dim": 8}, "image tokens"),
    ],
    ids=["group norm", "added keys and values", "pooled text", "image tokens"],
)
def test_text_tokens_that_change_each_other_are_refused_with_the_reason(sizes, reason):
    unet = tiny.unet(**sizes)
    with pytest.raises(vsf.UnsupportedPipelineError, match=reason), vsf.guide(unet, "wheels"):
        pass
