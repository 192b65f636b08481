"""Stable Diffusion 3 guided: against the lockstep oracle, and in every pipeline of the family."""

import copy

import diffusers
import pytest
import torch

import vsf
from support import tiny_pipelines as tiny
from support.lockstep_oracle import Lockstep, Side, unpadded_text
from vsf.families.sd3 import StableDiffusion3

STRONG = vsf.ValueSignFlip(scale=2.0, offset=0.1)
LAYERS = {r"transformer_blocks\.\d+\.attn": ("image", "text")}
KINDS = {
    "plain": {"qk_norm": None, "dual_attention_layers": ()},
    "dual attention": {"qk_norm": None, "dual_attention_layers": (0, 1)},
    "qk norm": {"qk_norm": "rms_norm", "dual_attention_layers": ()},
    "both": {"qk_norm": "rms_norm", "dual_attention_layers": (0,)},
}


def difference(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


@torch.no_grad()
def embedded(pipe, prompt="a red car"):
    """The positive prompt exactly as the plain pipeline encodes it."""
    text, _, pooled, _ = pipe.encode_prompt(
        prompt, None, None, do_classifier_free_guidance=False, max_sequence_length=24
    )
    return {"prompt": None, "prompt_embeds": text, "pooled_prompt_embeds": pooled}


def in_lockstep(pipe, prompt, negative, method, **settings):
    """The oracle's picture: a pipeline each for the positive and the negative run."""
    plus = embedded(pipe, prompt)
    minus = {**plus, "prompt_embeds": unpadded_text(pipe, negative)}
    if method.layout == "reference":
        plus["prompt_embeds"] = torch.cat([plus["prompt_embeds"], minus["prompt_embeds"]], 1)
    twin = copy.deepcopy(pipe)
    return Lockstep(LAYERS, scale=method.scale, offset=method.offset).run(
        Side(pipe.transformer, lambda: tiny.call(pipe, **plus, **settings), plus["prompt_embeds"].shape[1]),
        Side(twin.transformer, lambda: tiny.call(twin, **minus, **settings), minus["prompt_embeds"].shape[1]),
    )


@pytest.mark.parametrize("t5", [True, False], ids=["t5", "no t5"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_guided_pipeline_agrees_with_two_runs_in_lockstep(kind, t5):
    pipe = tiny.sd3(t5=t5, **KINDS[kind])
    with vsf.guide(pipe, "wheels", method=STRONG):
        guided = tiny.call(pipe)
    assert difference(guided, in_lockstep(pipe, "a red car", "wheels", STRONG)) <= 1e-6
    assert difference(guided, tiny.call(pipe)) > 1e-3


@pytest.mark.parametrize("method", [STRONG, vsf.ValueSignFlip(scale=0.0, offset=-2.0)], ids=str)
@torch.no_grad()
def test_a_guided_denoiser_agrees_with_the_lockstep_oracle_in_float64(method):
    model = tiny.sd3_transformer().double()
    other = copy.deepcopy(model)
    sizes = {"hidden_states": (1, 4, 8, 8), "pooled_projections": (1, 32), "encoder_hidden_states": (1, 12, 32)}
    inputs = {name: torch.randn(size, dtype=torch.float64) for name, size in sizes.items()}
    inputs |= {"timestep": torch.tensor([500.0]), "return_dict": False}
    rows = torch.randn(1, 7, 32, dtype=torch.float64)
    with vsf.guide(model, negative=vsf.Negative((rows[0],)), method=method):
        guided = model(**inputs)[0]
    expected = Lockstep(LAYERS, scale=method.scale, offset=method.offset).run(
        Side(model, lambda: model(**inputs)[0], 12),
        Side(other, lambda: other(**{**inputs, "encoder_hidden_states": rows})[0], 7),
    )
    assert difference(guided, expected) <= 1e-12


@torch.no_grad()
def test_the_reference_layout_is_the_paper_layout_with_the_negative_added_to_the_positive():
    pipe, method = tiny.sd3(), vsf.ValueSignFlip(scale=2.0, offset=0.1, layout="reference")
    with vsf.guide(pipe, "wheels", method=method):
        guided = tiny.call(pipe)
    assert difference(guided, in_lockstep(pipe, "a red car", "wheels", method)) <= 1e-6


def test_the_reference_layout_keeps_each_row_to_itself():
    pipe, method = tiny.sd3(), vsf.ValueSignFlip(scale=2.0, layout="reference")
    negatives, prompts = ["wheels", "", "an old tree"], ["a red car", "a hat", "a dog"]
    latents = torch.randn(3, 4, 8, 8)
    alone = []
    for index, (prompt, negative) in enumerate(zip(prompts, negatives, strict=True)):
        with vsf.guide(pipe, negative, method=method):
            alone.append(tiny.call(pipe, prompt, latents=latents[index : index + 1]))
    with vsf.guide(pipe, negatives, method=method):
        together = tiny.call(pipe, prompts, latents=latents)
    assert difference(together, torch.cat(alone)) <= 1e-5


@torch.no_grad()
def test_the_fused_projections_are_guided_alike():
    pipe = tiny.sd3(**KINDS["plain"])
    expected = in_lockstep(pipe, "a red car", "wheels", STRONG)
    pipe.transformer.fuse_qkv_projections()
    with vsf.guide(pipe, "wheels", method=STRONG):
        guided = tiny.call(pipe)
    assert difference(guided, expected) <= 1e-5


# Encoding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t5", [True, False], ids=["t5", "no t5"])
def test_a_negative_is_encoded_from_its_real_tokens_alone(t5):
    pipe = tiny.sd3(t5=t5)
    negative = vsf.encode(pipe, "wheels")
    torch.testing.assert_close(negative.embeddings[0], unpadded_text(pipe, "wheels")[0], rtol=0, atol=1e-6)
    assert negative.lengths == ((8 + 8,) if t5 else (8,))


def test_begin_and_end_marks_are_known():
    special = vsf.encode(tiny.sd3(), "ab").special[0].tolist()
    begin, letter, letter_2, end = True, False, False, True
    assert special == [begin, letter, letter_2, end, False, False, False, True]  # T5: "▁", "a", "b", "</s>"


def test_a_word_the_tokenizer_does_not_know_is_no_mark():
    pipe = tiny.sd3()
    assert pipe.tokenizer_3("é").input_ids[1] == pipe.tokenizer_3.unk_token_id
    assert vsf.encode(pipe, "é").special[0].tolist()[-3:] == [False, False, True]


def test_strip_leaves_the_marks_out():
    pipe = tiny.sd3()
    with vsf.guide(pipe, "ab", method=vsf.ValueSignFlip(special_tokens="strip")) as report:
        stripped = tiny.call(pipe)
    assert report.tokens == (5,)
    kept = unpadded_text(pipe, "ab")[0][[1, 2, 4, 5, 6]]
    with vsf.guide(pipe, negative=vsf.Negative((kept,))):
        assert difference(stripped, tiny.call(pipe)) <= 1e-6


def test_tokenizers_that_count_differently_are_paired_as_the_pipeline_pairs_them():
    pipe = tiny.sd3(merges=(("w", "h"), ("e", "e")), t5=False)
    counts = [len(tokenizer("wheels").input_ids) for tokenizer in (pipe.tokenizer, pipe.tokenizer_2)]
    assert counts == [8, 6]
    negative = vsf.encode(pipe, "wheels")
    padded = pipe.encode_prompt("wheels", None, None, do_classifier_free_guidance=False)[0]
    torch.testing.assert_close(negative.embeddings[0], padded[0, :8], rtol=0, atol=1e-6)
    assert negative.special[0].tolist() == [True, *[False] * 6, True]


def test_one_tokenizer_may_serve_both_encoders():
    pipe = tiny.sd3()
    expected = vsf.encode(pipe, "ab")
    pipe.tokenizer_2 = pipe.tokenizer
    got = vsf.encode(pipe, "ab")
    assert torch.equal(got.embeddings[0], expected.embeddings[0])
    assert torch.equal(got.special[0], expected.special[0])


def test_a_long_negative_is_cut_where_the_pipeline_cuts_it():
    negative = vsf.encode(tiny.sd3(), "wheels " * 60)
    assert negative.lengths == (77 + 256,)
    assert negative.special[0].nonzero().flatten().tolist() == [0, 76, 77 + 255]


def test_freed_encoders_are_named_as_the_reason():
    pipe = tiny.sd3()
    negative = vsf.encode(pipe, "wheels")
    positive = embedded(pipe)
    with vsf.guide(pipe, "wheels", method=STRONG):
        expected = tiny.call(pipe)
    pipe.text_encoder = pipe.text_encoder_2 = pipe.text_encoder_3 = None
    with pytest.raises(vsf.PromptError, match="encode before freeing them"):
        vsf.encode(pipe, "wheels")
    with vsf.guide(pipe, negative=negative, method=STRONG):
        assert torch.equal(tiny.call(pipe, **positive), expected)


def test_encoding_leaves_the_tokenizers_as_they_were():
    pipe = tiny.sd3()
    before = [type(tokenizer) for tokenizer in (pipe.tokenizer, pipe.tokenizer_2, pipe.tokenizer_3)]
    vsf.encode(pipe, "wheels")
    assert [type(tokenizer) for tokenizer in (pipe.tokenizer, pipe.tokenizer_2, pipe.tokenizer_3)] == before


# The pipelines of the family --------------------------------------------------------------------------------------


def controlnet():
    sizes = {"num_layers": 1, "attention_head_dim": 8, "num_attention_heads": 4, "sample_size": 8, "patch_size": 1}
    dims = {"in_channels": 4, "joint_attention_dim": 32, "caption_projection_dim": 32, "pooled_projection_dim": 32}
    model = diffusers.SD3ControlNetModel(**sizes, **dims, pos_embed_max_size=16, extra_conditioning_channels=0)
    return tiny.without_silent_parts(model.eval())


PIPELINES = {
    "StableDiffusion3Pipeline": {},
    "StableDiffusion3Img2ImgPipeline": {"image": torch.rand(1, 3, 8, 8), "strength": 1.0},
    "StableDiffusion3InpaintPipeline": {
        "image": torch.rand(1, 3, 8, 8),
        "mask_image": torch.ones(1, 1, 8, 8),
        "strength": 1.0,
    },
    "StableDiffusion3ControlNetPipeline": {"control_image": torch.rand(1, 3, 8, 8)},
}


@pytest.mark.parametrize("guidance_scale", [0.0, 3.0], ids=["alone", "with cfg"])
@pytest.mark.parametrize("name", PIPELINES)
def test_every_pipeline_of_the_family_is_guided_unchanged(name, guidance_scale):
    extra = {"controlnet": controlnet()} if "ControlNet" in name else None
    pipe = tiny.sd3(getattr(diffusers, name), extra=extra, channels=16 if "Inpaint" in name else 4)
    settings = {**PIPELINES[name], "guidance_scale": guidance_scale}
    plain = tiny.call(pipe, **settings)
    with vsf.guide(pipe, "wheels", method=vsf.ValueSignFlip(offset=float("inf"))):
        assert torch.equal(tiny.call(pipe, **settings), plain)
    with vsf.guide(pipe, "wheels", method=STRONG) as report:
        assert difference(tiny.call(pipe, **settings), plain) > 1e-3
    assert (report.steps, report.calls) == (2, 4)


def test_perturbed_attention_is_refused():
    pipe = tiny.sd3(diffusers.StableDiffusion3PAGPipeline, extra={"pag_applied_layers": ["blocks.1"]})
    with pytest.raises(vsf.UnsupportedPipelineError, match="perturbed attention"), vsf.guide(pipe, "wheels"):
        pass


# Rows -------------------------------------------------------------------------------------------------------------


class Recorder:
    """Keeps what the denoiser is called with and what it returns."""

    def __init__(self, pipe):
        self.seen = []
        pipe.transformer.register_forward_hook(self, with_kwargs=True)

    def __call__(self, model, args, kwargs, output):
        self.seen.append((kwargs, output[0]))


def test_unconditional_rows_stay_identical_to_the_last_bit():
    pipe = tiny.sd3()
    recorder = Recorder(pipe)
    settings = {"guidance_scale": 3.0, "num_inference_steps": 1, "negative_prompt": "ugly"}
    tiny.call(pipe, **settings)
    with vsf.guide(pipe, "wheels", method=STRONG):
        tiny.call(pipe, **settings)
    (_, plain), (_, guided) = recorder.seen
    assert torch.equal(guided[:1], plain[:1])
    assert difference(guided[1:], plain[1:]) > 1e-3


def test_the_conditional_rows_under_cfg_are_those_guided_without_cfg():
    pipe = tiny.sd3()
    recorder = Recorder(pipe)
    with vsf.guide(pipe, "wheels", method=STRONG):
        tiny.call(pipe, guidance_scale=3.0, num_inference_steps=1)
        tiny.call(pipe, guidance_scale=0.0, num_inference_steps=1)
    (_, both), (_, alone) = recorder.seen
    assert difference(both[1:], alone) <= 1e-6


def test_the_extra_call_of_skip_layer_guidance_is_guided_as_conditional():
    pipe = tiny.sd3(num_layers=3)
    recorder = Recorder(pipe)
    skipping = {"skip_guidance_layers": [1], "skip_layer_guidance_start": -1.0, "skip_layer_guidance_stop": 1.0}
    settings = {"guidance_scale": 3.0, "num_inference_steps": 1, **skipping}
    tiny.call(pipe, ["a red car", "a hat"], **settings)
    with vsf.guide(pipe, ["wheels", ""], method=STRONG) as report:
        tiny.call(pipe, ["a red car", "a hat"], **settings)
    (_, _), (_, plain), (_, _), (kwargs, guided) = recorder.seen
    assert kwargs["skip_layers"] == [1]
    assert torch.equal(guided[1], plain[1])
    assert difference(guided[0], plain[0]) > 1e-3
    assert (report.steps, report.calls) == (2, 3 + 2)


def test_the_pooled_text_stays_the_positive_prompts():
    pipe = tiny.sd3()
    recorder = Recorder(pipe)
    with vsf.guide(pipe, "wheels"):
        tiny.call(pipe)
    for kwargs, _ in recorder.seen:
        assert torch.equal(kwargs["pooled_projections"], embedded(pipe)["pooled_prompt_embeds"])


def test_an_odd_number_of_rows_under_cfg_is_refused():
    pipe = tiny.sd3()
    pipe._guidance_scale = 3.0
    with pytest.raises(vsf.LayoutError, match="even number of rows, got 3"):
        StableDiffusion3().conditional_rows(pipe, {"encoder_hidden_states": torch.zeros(3, 4, 32)})
