"""What single families of joint attention do beyond what all of them share."""

import diffusers
import pytest
import torch
from PIL import Image

import vsf
from families.harness import OFF, STRONG, call, difference, registered
from families.models import chat_models as chat
from families.models import tiny_flux, tiny_flux2, tiny_joint, tiny_qwen_image
from vsf.families import FAMILIES

PICTURE = Image.linear_gradient("L").resize((24, 16)).convert("RGB")


# Reference images -------------------------------------------------------------------------------------------------


def test_reference_images_of_flux_are_no_part_of_the_picture():
    picture, reference = tiny_flux.image_ids(4, 6), tiny_flux.image_ids(8, 8) + torch.tensor([1, 0, 0])
    grid = FAMILIES["flux"].grid(None, {"img_ids": torch.cat([picture, reference])})
    assert (grid.frames, grid.height, grid.width) == (1, 4, 6)


def test_reference_images_of_flux2_are_no_part_of_the_picture():
    picture = tiny_flux2.positions(1, 4, 6, 1)
    reference = tiny_flux2.positions(1, 8, 8, 1) + torch.tensor([10, 0, 0, 0])
    grid = FAMILIES["flux2"].grid(None, {"img_ids": torch.cat([picture, reference])[None]})
    assert (grid.frames, grid.height, grid.width) == (1, 4, 6)


def test_layers_of_qwen_image_are_frames_and_its_condition_is_not():
    model = tiny_qwen_image.transformer(use_layer3d_rope=True)
    grid = FAMILIES["qwen_image"].grid(model, {"img_shapes": [[(1, 4, 6)] * 3 + [(1, 8, 8)]]})
    assert (grid.frames, grid.height, grid.width) == (3, 4, 6)


# Qwen-Image-Edit --------------------------------------------------------------------------------------------------


class TextProcessor:
    """Stands for the processor of Qwen2.5-VL, without looking at any image."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def __call__(self, text, images=None, **options):
        return self.tokenizer(text, **options)


def edit_pipeline(name, **changes):
    model, processor = tiny_qwen_image.transformer(**changes), TextProcessor(chat.tokenizer())
    return tiny_qwen_image.pipeline(getattr(diffusers, name), model=model, processor=processor)


PIXELS = {name: tiny_qwen_image.SETTINGS[name] for name in ("height", "width")}
STEPS = {name: value for name, value in tiny_qwen_image.SETTINGS.items() if name not in PIXELS}
WHITE = {"mask_image": Image.new("L", PICTURE.size, 255), "strength": 1.0}
LAYERED = {"use_layer3d_rope": True, "use_additional_t_cond": True}
EDITS = {
    "QwenImageEditPipeline": ({"zero_cond_t": True}, {**PIXELS}, (2, 3)),
    "QwenImageEditPlusPipeline": ({}, {**PIXELS}, (2, 3)),
    "QwenImageEditInpaintPipeline": ({}, {**PIXELS, **WHITE}, (2, 3)),
    "QwenImageLayeredPipeline": (LAYERED, {"layers": 2, "output_type": "pt"}, (3, 2, 3)),
}


@pytest.fixture
def _small_images(monkeypatch):
    """Let the pipelines scale their images to a size that is right for a test."""
    for file, count in {"edit": 3, "edit_plus": 2, "edit_inpaint": 3, "layered": 2}.items():
        module = getattr(diffusers.pipelines.qwenimage, f"pipeline_qwenimage_{file}")
        sizes = (24, 16, None)[:count]
        monkeypatch.setattr(module, "calculate_dimensions", lambda *_, sizes=sizes: sizes)


@pytest.mark.families
@pytest.mark.usefixtures("_small_images")
@pytest.mark.parametrize("name", EDITS)
def test_every_edit_pipeline_of_qwen_image_is_guided_and_otherwise_unchanged(name):
    changes, settings, grid = EDITS[name]
    pipe, settings = edit_pipeline(name, **changes), {**STEPS, "image": PICTURE, **settings}
    plain = call(pipe, "a red car", **settings)
    with vsf.guide(pipe, "wheels", method=OFF):
        assert torch.equal(call(pipe, "a red car", **settings), plain)
    with vsf.guide(pipe, "wheels", method=STRONG, observe=True) as report:
        assert difference(call(pipe, "a red car", **settings), plain) > 1e-4
    assert report.heat_map().shape == grid


@pytest.mark.parametrize("name", ["QwenImageEditPipeline", "QwenImageEditPlusPipeline"])
def test_the_negative_of_an_edit_holds_no_place_for_a_picture(name):
    pipe = edit_pipeline(name)
    negative = vsf.encode(pipe, "wheels")
    template = pipe.prompt_template_encode.replace("<|vision_start|><|image_pad|><|vision_end|>", "")
    ids = torch.tensor([pipe.tokenizer(template.format("wheels")).input_ids])
    states = pipe.text_encoder(ids, output_hidden_states=True).hidden_states[-1]
    expected = states[0, pipe.prompt_template_encode_start_idx :]
    torch.testing.assert_close(negative.embeddings[0], expected, rtol=0, atol=1e-6)
    assert negative.special[0].tolist() == [False] * len("wheels") + [True] * tiny_qwen_image.FRAME


# Classifier-free guidance as a method -------------------------------------------------------------------------------

PIPELINES = {case.name: case for case in registered("PIPELINES")}
SCALES = {  # of the pipeline's own guidance, which Krea's and Cosmos' count from 0
    "flux": {"true_cfg_scale": 3.0},
    "chroma": {"guidance_scale": 3.0},
    "auraflow": {"guidance_scale": 3.0},
    "cogvideox": {"guidance_scale": 3.0},
    "cogview4": {"guidance_scale": 3.0},
    "krea2": {"guidance_scale": 2.0},
    "cosmos 2": {"guidance_scale": 2.0},
}


@pytest.mark.parametrize("name", SCALES)
def test_classifier_free_guidance_as_a_method_is_the_pipelines_own(name):
    case = PIPELINES[name]
    pipe = case.build()
    expected = case.run(pipe, negative_prompt="not so nice", **SCALES[name])
    with vsf.guide(pipe, "not so nice", method=vsf.guidance.method("cfg", scale=3.0)):
        assert difference(case.run(pipe), expected) <= 1e-5


# The others -------------------------------------------------------------------------------------------------------


def test_cogview4_reads_a_negative_that_needs_no_filling():
    pipe = tiny_joint.cogview4_pipeline()
    negative = vsf.encode(pipe, "sixteen letters!")
    expected = tiny_joint.unpadded_glm(pipe, "sixteen letters!")
    assert len(negative.embeddings[0]) == 16
    torch.testing.assert_close(negative.embeddings[0], expected, rtol=0, atol=1e-6)


def test_cogview4_cuts_a_long_negative_where_the_pipeline_cuts_it():
    assert vsf.encode(tiny_joint.cogview4_pipeline(), "wheels " * 200).lengths == (1024,)


TOKENIZED_BY_T5 = {
    "flux": tiny_flux.pipeline,
    "chroma": tiny_joint.chroma_pipeline,
    "auraflow": tiny_joint.auraflow_pipeline,
}


@pytest.mark.parametrize("family", TOKENIZED_BY_T5)
def test_words_of_the_positive_prompt_can_be_weighed(family):
    pipe = TOKENIZED_BY_T5[family]()
    characters = FAMILIES[family].characters(pipe, "a red")
    assert {stop for start, stop in characters if stop > start} == {1, 3, 4, 5}  # "a", "r", "e", "d"
    settings = {**tiny_joint.SMALL, "guidance_scale": 0.0}
    plain = call(pipe, "a red", **settings)
    with vsf.guide(pipe, vsf.Prompt.parse("a (red:2)")):
        assert difference(call(pipe, "a red", **settings), plain) > 1e-4


def test_words_of_the_template_are_marks_wherever_they_appear():
    pipe = tiny_flux2.klein()
    special = vsf.encode(pipe, "user").special[0]
    assert (~special).nonzero().flatten().tolist() == [6, 7, 8, 9]  # not those of "<|im_start|>user\n" in front
