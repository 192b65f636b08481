"""Drawing: the same pixels as the pipeline itself, one image per seed, guided or not."""

import pytest
import torch
from diffusers import StableDiffusion3Img2ImgPipeline, StableDiffusion3InpaintPipeline, StableDiffusion3Pipeline
from PIL import Image, ImageChops

import vsf
from support import tiny_pipelines as tiny
from vsf.errors import RequestError
from vsf.generation import Lora, Model, Request, draw, generate, load


@pytest.fixture(scope="module")
def pipe():
    return tiny.sd3(t5=False, patch_size=2)


def request(**fields):
    return Request(**{"prompt": "a red car", "steps": 2, "size": (16, 16), **fields})


def same(a, b):
    return a.size == b.size and ImageChops.difference(a, b).getbbox() is None


def test_without_a_negative_the_image_is_the_pipeline_s_own(pipe):
    expected = pipe(
        "a red car",
        num_inference_steps=2,
        guidance_scale=0.0,
        width=16,
        height=12,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    (drawn,) = generate(request(seed=5, size=(16, 12)), pipe=pipe)
    assert drawn.image.size == (16, 12)
    assert same(drawn.image, expected)


def test_a_negative_changes_the_image_as_guide_does(pipe):
    method = vsf.ValueSignFlip(scale=2.0)
    with vsf.guide(pipe, "wheels", method=method):
        expected = pipe(
            "a red car",
            num_inference_steps=2,
            guidance_scale=0.0,
            width=16,
            height=16,
            generator=torch.Generator().manual_seed(0),
        ).images[0]
    (guided,) = generate(request(negative="wheels", knobs={"scale": 2.0}), pipe=pipe)
    (unguided,) = generate(request(negative="wheels", method="none"), pipe=pipe)
    assert same(guided.image, expected)
    assert not same(guided.image, unguided.image)


def test_an_image_depends_on_its_seed_and_not_on_the_count(pipe):
    many = generate(request(negative="wheels", seed=3, count=3), pipe=pipe)
    (third,) = generate(request(negative="wheels", seed=5), pipe=pipe)
    assert same(many[2].image, third.image)
    assert not same(many[0].image, many[1].image)
    assert [result.metadata["seed"] for result in many] == [3, 4, 5]


def test_images_are_at_hand_one_by_one(pipe):
    drawing = draw(request(count=1000), Model(pipe))
    assert next(drawing).metadata["seed"] == 0
    assert next(drawing).metadata["seed"] == 1


def test_progress_hears_of_every_step_of_every_image(pipe):
    heard = []
    generate(request(count=2, steps=3), pipe=pipe, progress=lambda *step: heard.append(step))
    assert heard == [(0, 1, 3), (0, 2, 3), (0, 3, 3), (1, 1, 3), (1, 2, 3), (1, 3, 3)]


def test_the_pipeline_is_free_while_the_caller_looks_at_an_image(pipe):
    processors = pipe.transformer.attn_processors
    drawing = draw(request(negative="wheels", count=2), Model(pipe))
    next(drawing)
    with vsf.guide(pipe, "something else"):
        pass
    drawing.close()
    assert all(processors[name] is processor for name, processor in pipe.transformer.attn_processors.items())


@pytest.mark.parametrize(("size", "words"), [((17, 16), "multiples of 2.*16x16"), ((16, 64), "pos_embed_max_size")])
def test_a_size_the_model_cannot_draw_is_refused(pipe, size, words):
    with pytest.raises(RequestError, match=words):
        generate(request(size=size), pipe=pipe)


def test_an_image_to_start_from_shapes_the_result(pipe, tmp_path):
    file = tmp_path / "start.png"
    Image.new("RGB", (20, 24), "white").save(file)
    resized = generate(request(image=file, strength=0.5, steps=4), pipe=pipe)[0]
    assert resized.image.size == (16, 16)
    assert resized.metadata["strength"] == 0.5
    own_size = generate(request(image=file, strength=0.5, steps=4, size=None, negative="wheels"), pipe=pipe)[0]
    assert own_size.image.size == (20, 24)
    from_noise = generate(request(size=(20, 24), steps=4, negative="wheels"), pipe=pipe)[0]
    assert not same(own_size.image, from_noise.image)


def without(pipe, *parts):
    return StableDiffusion3Pipeline(**{**pipe.components, **dict.fromkeys(parts)})


@pytest.mark.parametrize("parts", [("text_encoder",), ("tokenizer", "tokenizer_2"), ("vae",)])
@pytest.mark.parametrize("negative", ["", "wheels"])
def test_a_pipeline_without_a_part_that_drawing_needs_is_refused_in_words_of_the_command(pipe, parts, negative):
    with pytest.raises(RequestError, match=rf"without its {', '.join(parts)}; .*--model"):
        generate(request(negative=negative), pipe=without(pipe, *parts))


@pytest.mark.parametrize("cls", [StableDiffusion3Img2ImgPipeline, StableDiffusion3InpaintPipeline])
def test_a_pipeline_that_starts_from_a_picture_asks_for_one(pipe, tmp_path, cls):
    image_pipe = cls(**pipe.components)
    with pytest.raises(RequestError, match="starts from a picture; give it one with --image"):
        generate(request(), pipe=image_pipe)
    file = tmp_path / "start.png"
    Image.new("RGB", (16, 16), "white").save(file)
    assert generate(request(image=file), pipe=image_pipe)[0].image.size == (16, 16)


def test_a_picture_that_is_none_is_refused(pipe, tmp_path):
    file = tmp_path / "start.png"
    file.write_text("not a picture")
    with pytest.raises(RequestError, match="cannot read the image"):
        generate(request(image=file), pipe=pipe)


def test_loras_belong_on_the_pipeline_that_is_handed_over(pipe, tmp_path):
    file = tmp_path / "style.safetensors"
    file.touch()
    with pytest.raises(RequestError, match="load the LoRAs onto the pipeline"):
        generate(request(loras=(Lora(file),)), pipe=pipe)


def test_metadata_names_neither_paths_nor_weights_it_does_not_know(pipe, folder):
    handed_over = generate(request(), pipe=pipe)[0].metadata
    assert handed_over["model"] is None
    assert "weights" not in handed_over
    asked_request = request(model=str(folder))
    loaded = next(draw(asked_request, load(asked_request))).metadata
    assert loaded["model"] is None
    assert len(loaded["weights"]) == 64
    assert str(folder) not in str(loaded)


def test_a_single_step_is_refused_where_the_schedule_cannot_have_one():
    with pytest.raises(RequestError, match="at least --steps 2"):
        generate(Request("a red car", model="tiny", steps=1))
