"""Modular pipelines, guided by vsf.guide and by their guider: from the same negative the same numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import diffusers
import pytest
import torch
from diffusers import modular_pipelines

import vsf
from families.harness import OFF, STRONG, DenoiserRows, call, difference
from families.models import (
    tiny_anima,
    tiny_ernie,
    tiny_flux,
    tiny_flux2,
    tiny_flux3,
    tiny_helios,
    tiny_krea2,
    tiny_ltx2,
    tiny_masked,
    tiny_minimax_h3,
    tiny_qwen_image,
    tiny_unet,
    tiny_wan,
)
from families.models import tiny_per_block_pipelines as beside
from support import tiny_pipelines as tiny
from vsf.diffusers import VSFGuider

NEVER = {"stop": 0.0}  # asks for a negative prompt and does not guide; some pipelines cannot do without the former
KNOBS = {"scale": STRONG.scale, "offset": STRONG.offset}


@dataclass(frozen=True)
class Modular:
    """blocks: their class. ordinary: makes the pipeline whose parts they get. settings: of the call. changes: what the
    ordinary pipeline should have as the blocks have it. guiders: names of the components.
    """

    blocks: str
    ordinary: Callable[[], Any]
    settings: Mapping[str, Any]
    changes: Mapping[str, Any] = field(default_factory=dict)
    guiders: tuple[str, ...] = ("guider",)

    def build(self, **options: Any) -> tuple[Any, Any]:
        """The modular pipeline, with guiders of these options, and the ordinary one."""
        ordinary = self.ordinary()
        for name, value in self.changes.items():
            setattr(ordinary, name, value)
        pipe = getattr(modular_pipelines, self.blocks)().init_pipeline()
        wanted = {*pipe.component_names} - {*self.guiders}
        parts = {name: part for name, part in ordinary.components.items() if name in wanted}
        pipe.update_components(**parts)
        self.set_guiders(pipe, **options)
        return pipe, ordinary

    def set_guiders(self, pipe: Any, **options: Any) -> None:
        pipe.update_components(**{name: VSFGuider(**options) for name in self.guiders})

    def run(self, pipe: Any, **settings: Any) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        settings = {"num_inference_steps": 2, **self.settings, **settings}
        return pipe(prompt="a red car", generator=generator, output="latents", **settings)


SIZE, SMALL = {"height": 32, "width": 48}, {"height": 8, "width": 12}
CLIP = {**SIZE, "num_frames": 5}
FROM_A_FRAME = {**CLIP, "image": tiny_wan.FRAME}
TOLD = {
    "z_image": Modular("ZImageAutoBlocks", beside.zimage_pipeline, {**SIZE, "max_sequence_length": 512}),
    "qwen_image": Modular(
        "QwenImageAutoBlocks",
        tiny_qwen_image.pipeline,
        {**SIZE, "max_sequence_length": 512},
        {"prompt_template_encode_start_idx": 34},
    ),
    "wan": Modular("WanBlocks", tiny_wan.pipeline, CLIP),
    "wan image to video": Modular("WanImage2VideoAutoBlocks", tiny_wan.image_pipeline, FROM_A_FRAME),
    "helios": Modular("HeliosAutoBlocks", tiny_helios.pipeline, {**CLIP, **tiny_helios.PIECE}),
    "wan 2.2": Modular("Wan22Blocks", tiny_wan.two_stages, CLIP, guiders=("guider", "guider_2")),
    "krea2": Modular(
        "Krea2AutoBlocks",
        partial(tiny_krea2.pipeline, range(2, 36, 3), depth=36),
        SIZE,
        {"prompt_template_encode_start_idx": 34, "prompt_template_encode_num_suffix_tokens": 5},
    ),
    "ernie": Modular("ErnieImageAutoBlocks", tiny_ernie.pipeline, SIZE),
    "hunyuan_video15": Modular(
        "HunyuanVideo15AutoBlocks",
        beside.hunyuan_video15_pipeline,
        {**CLIP, "height": 64, "width": 96},
        {"prompt_template_encode_start_idx": 108},
    ),
}
UNTOLD = {
    "sd3": Modular("StableDiffusion3AutoBlocks", tiny.sd3, SMALL),
    "sdxl": Modular("StableDiffusionXLAutoBlocks", tiny_unet.pipeline_xl, SIZE),
    "flux2 klein base": Modular("Flux2KleinBaseAutoBlocks", tiny_flux2.klein, {**SIZE, "max_sequence_length": 64}),
    "ltx": Modular("LTXAutoBlocks", tiny_masked.ltx_pipeline, {"height": 64, "width": 64, "num_frames": 9}),
}
WITHOUT_GUIDER = {
    "flux": Modular("FluxAutoBlocks", tiny_flux.pipeline, {**SIZE, "max_sequence_length": 24}, guiders=()),
    "flux2": Modular("Flux2AutoBlocks", tiny_flux2.dev, SIZE, guiders=()),
    "flux2 klein": Modular("Flux2KleinAutoBlocks", tiny_flux2.klein, {**SIZE, "max_sequence_length": 64}, guiders=()),
}


def assert_guided(case, pipe, negative):
    """Return what the pipeline gives guided by vsf.guide, another thing than unguided."""
    plain = case.run(pipe)
    with vsf.guide(pipe, negative=negative, method=OFF):
        assert torch.equal(case.run(pipe), plain)
    with vsf.guide(pipe, negative=negative, method=STRONG):
        guided = case.run(pipe)
    assert difference(guided, plain) > 1e-4
    assert torch.equal(case.run(pipe), plain)
    return guided


# The rest of the models run with every pipeline of every family.
OFTEN = {"wan", "z_image", "sdxl"}


def often(names):
    """Models as parameters of a test, those that stand for the others in every run."""
    return [name if name in OFTEN else pytest.param(name, marks=pytest.mark.families) for name in names]


@pytest.mark.parametrize("name", often(TOLD))
def test_a_modular_pipeline_is_guided_by_guide_and_by_its_guider(name):
    case = TOLD[name]
    pipe, ordinary = case.build(**NEVER)
    guided = assert_guided(case, pipe, vsf.encode(ordinary, "wheels"))
    case.set_guiders(pipe, knobs=KNOBS)
    before = [type(part) for part in pipe.transformer.modules()]
    assert difference(case.run(pipe, negative_prompt="wheels"), guided) <= 1e-6
    assert [type(part) for part in pipe.transformer.modules()] == before
    assert sum(getattr(pipe, guider).report.steps for guider in case.guiders) == 2


@pytest.mark.parametrize("name", often(UNTOLD))
def test_where_words_cannot_be_told_from_padding_the_guider_takes_the_negative_that_was_encoded(name):
    case = UNTOLD[name]
    pipe, ordinary = case.build(**NEVER)
    negative = vsf.encode(ordinary, "wheels")
    pipe.guider.negative = negative
    guided = assert_guided(case, pipe, negative)
    case.set_guiders(pipe, knobs=KNOBS)
    with pytest.raises(vsf.PromptError, match=r"guider\.negative = vsf\.encode"):
        case.run(pipe, negative_prompt="wheels")
    pipe.guider.negative = negative
    assert torch.equal(case.run(pipe), guided)


@pytest.mark.parametrize("name", WITHOUT_GUIDER)
def test_a_modular_pipeline_without_a_guider_is_guided_by_guide(name):
    case = WITHOUT_GUIDER[name]
    pipe, ordinary = case.build()
    assert_guided(case, pipe, vsf.encode(ordinary, "wheels"))


@pytest.mark.parametrize("name", often([*TOLD, *UNTOLD]))
def test_the_call_without_the_prompt_is_left_alone_under_a_guider_that_makes_one(name):
    case = {**TOLD, **UNTOLD}[name]
    pipe, ordinary = case.build(**NEVER)
    pipe.update_components(**{name: diffusers.ClassifierFreeGuidance(guidance_scale=3.0) for name in case.guiders})
    recorder = DenoiserRows(getattr(pipe, "unet" if name == "sdxl" else "transformer"))
    settings = {"num_inference_steps": 1, "negative_prompt": "ugly"}
    case.run(pipe, **settings)
    plain, recorder.rows = recorder.rows, []
    with vsf.guide(pipe, negative=vsf.encode(ordinary, "wheels"), method=STRONG):
        case.run(pipe, **settings)
    assert [torch.equal(*pair) for pair in zip(recorder.rows, plain, strict=True)] == [False, True]


def test_an_attached_modular_pipeline_takes_what_was_encoded_and_follows_a_schedule():
    case = TOLD["wan"]
    pipe, ordinary = case.build(**NEVER)
    plain, negative = case.run(pipe), vsf.encode(ordinary, "wheels")
    with vsf.guide(pipe, negative=negative, method=STRONG):
        everywhere = case.run(pipe)
    report = vsf.attach(pipe, method=STRONG, schedule=vsf.Schedule(end=0.5))
    first = case.run(pipe, negative_prompt=negative)
    vsf.detach(pipe)
    assert (report.steps, report.skipped) == (1, 1)
    assert difference(first, everywhere) > 1e-4
    assert difference(first, plain) > 1e-4
    assert torch.equal(case.run(pipe), plain)


def test_the_method_that_calls_the_model_twice_is_left_to_the_guider():
    pipe, ordinary = TOLD["wan"].build(**NEVER)
    negative = vsf.encode(ordinary, "wheels")
    with pytest.raises(vsf.KnobError, match="ClassifierFreeGuidance"), vsf.guide(pipe, negative=negative, method="cfg"):
        pass


def test_a_modular_pipeline_does_not_encode_and_says_what_does():
    pipe, _ = TOLD["wan"].build(**NEVER)
    with pytest.raises(vsf.PromptError, match="with an ordinary pipeline of the same parts, such as WanPipeline"):
        vsf.encode(pipe, "wheels")


def test_the_two_guiders_of_modular_ltx2_are_refused_with_the_reason():
    case = Modular("LTX2AutoBlocks", tiny_ltx2.pipeline, tiny_ltx2.SETTINGS, guiders=("guider", "audio_guider"))
    pipe, _ = case.build()
    with pytest.raises(vsf.UnsupportedPipelineError, match="one for the picture and one for the sound"):
        case.run(pipe, negative_prompt="wheels")


# Models that have modular pipelines alone ---------------------------------------------------------------------------

ALONE = {
    "anima": (tiny_anima.pipeline, tiny_anima.SETTINGS),
    "flux3": (tiny_flux3.plain, tiny_flux3.SETTINGS),
}


@pytest.mark.parametrize("name", ALONE)
def test_a_pipeline_without_an_ordinary_one_encodes_for_its_guider(name):
    build, settings = ALONE[name]
    pipe = build(VSFGuider(knobs=KNOBS))
    pipe.guider.negative = vsf.encode(pipe, "wheels")
    by_guider = call(pipe, "a red car", **settings)
    pipe = build()
    with vsf.guide(pipe, "wheels", method=STRONG):
        assert difference(call(pipe, "a red car", **settings), by_guider) <= 1e-6


def test_the_guider_of_anima_tells_words_from_the_zeros_behind_them():
    pipe = tiny_anima.pipeline(VSFGuider(knobs=KNOBS))
    told = call(pipe, "a red car", **tiny_anima.SETTINGS, negative_prompt="wheels")
    pipe.guider.negative = vsf.encode(pipe, "wheels")
    assert difference(call(pipe, "a red car", **tiny_anima.SETTINGS), told) <= 1e-6


def test_the_guider_of_flux3_cannot_tell_and_says_what_encodes():
    pipe = tiny_flux3.plain(VSFGuider(knobs=KNOBS))
    with pytest.raises(vsf.PromptError, match=r"guider\.negative = vsf\.encode\(pipe, texts\)"):
        call(pipe, "a red car", **tiny_flux3.SETTINGS, negative_prompt="wheels")


@pytest.mark.parametrize("name", ALONE)
def test_their_call_without_the_prompt_is_left_alone(name):
    build, settings = ALONE[name]
    pipe = build(diffusers.ClassifierFreeGuidance(guidance_scale=3.0))
    recorder = DenoiserRows(pipe.transformer)
    settings = {**settings, "num_inference_steps": 1, "negative_prompt": "ugly"}
    call(pipe, "a red car", **settings)
    plain, recorder.rows = recorder.rows, []
    with vsf.guide(pipe, "wheels", method=STRONG):
        call(pipe, "a red car", **settings)
    assert [torch.equal(*pair) for pair in zip(recorder.rows, plain, strict=True)] == [False, True]


def test_a_pipeline_that_takes_no_negative_prompt_does_when_it_is_attached():
    pipe = tiny_minimax_h3.pipeline()
    plain = call(pipe, "a red car", **tiny_minimax_h3.SETTINGS)
    report = vsf.attach(pipe, method=STRONG, schedule=vsf.Schedule(end=0.5))
    guided = call(pipe, "a red car", **tiny_minimax_h3.SETTINGS, negative_prompt="wheels")
    vsf.detach(pipe)
    assert (report.steps, report.skipped) == (1, 1)
    assert difference(guided, plain) > 1e-4
    assert torch.equal(call(pipe, "a red car", **tiny_minimax_h3.SETTINGS), plain)


def test_a_prompt_that_is_read_from_other_layers_than_the_negative_is_refused():
    pipe = tiny_flux3.distilled()
    layers = tuple(layer - 1 for layer in tiny_flux3.READ)
    with (
        vsf.guide(pipe, "wheels"),
        pytest.raises(vsf.PromptError, match="reads its prompt with text_encoder_out"),
    ):
        call(pipe, "a red car", **tiny_flux3.SETTINGS, text_encoder_out_layers=layers)
