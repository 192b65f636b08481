"""Metadata in the format of AUTOMATIC1111's web UI, read and written."""

import pytest
from PIL import Image

from vsf.errors import RequestError
from vsf.generation import Model, Request
from vsf.generation.metadata import provenance, webui

PARAMETERS = """a (red:1.3) car on snow <lora:winter:0.7>,
in the evening
Negative prompt: (wheels:1.2), blurry,
low contrast
Steps: 24, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 4711, Size: 512x768, \
Model hash: 0123456789, Model: someModel_v1, Lora hashes: "winter: abcdef, other: 12", Version: v1.10.1"""


def test_what_the_web_ui_writes_becomes_fields_of_a_request():
    recipe = webui.read(PARAMETERS)
    assert recipe.fields == {"steps": 24, "seed": 4711, "guidance_scale": 6.5, "size": (512, 768)}
    assert recipe.prompt == "a (red:1.3) car on snow ,\nin the evening"
    assert recipe.negative == "(wheels:1.2), blurry,\nlow contrast"
    assert recipe.model == "someModel_v1"
    assert recipe.left_out == ("the sampler DPM++ 2M", "the LoRA winter")
    request = Request(**recipe.repeat({"model": "owner/name"}))
    assert request.wanted.negatives == {"wheels": 1.2, "blurry, low contrast": 1.0}
    assert (request.seed, request.size, request.method) == (4711, (512, 768), "vsf")


def test_given_fields_replace_those_of_the_picture():
    fields = webui.read(PARAMETERS).repeat({"model": "owner/name", "seed": 1, "negative": "lights", "prompt": "a van"})
    assert (fields["seed"], fields["negative"], fields["prompt"], fields["steps"]) == (1, "lights", "a van", 24)


def test_another_tools_name_of_a_model_is_not_guessed_at():
    with pytest.raises(RequestError, match=r'names its model "someModel_v1".*--model'):
        webui.read(PARAMETERS).repeat({})


def test_a_picture_that_started_from_another_takes_its_strength_where_that_is_given():
    recipe = webui.read("a car\nSteps: 4, Seed: 1, Denoising strength: 0.4")
    assert "strength" not in recipe.repeat({"model": "tiny"})
    assert "give that with --image" in " ".join(recipe.reproduction_warnings({}))
    assert recipe.repeat({"model": "tiny", "image": "a.png"})["strength"] == 0.4
    enlarged = webui.read("a car\nSteps: 4, Seed: 1, Denoising strength: 0.4, Hires upscale: 2")
    assert "strength" not in enlarged.fields


def test_a_prompt_may_be_missing_and_quotes_hide_commas():
    recipe = webui.read('Steps: 4, Seed: 1, Model: "a, b: c"')
    assert (recipe.prompt, recipe.negative, recipe.model) == ("", "", "a, b: c")


MALFORMED = {
    "nothing": ("", 'no line that begins with "Steps:"'),
    "no settings": ("a red car\nNegative prompt: wheels", 'no line that begins with "Steps:"'),
    "no seed": ("a car\nSteps: 4, Size: 64x64", 'has no "Seed:"'),
    "seed in words": ("a car\nSteps: 4, Seed: many", 'no number after "Seed:", but "many"'),
    "steps in words": ("a car\nSteps: , Seed: 1", 'no number after "Steps:"'),
    "scale in words": ("a car\nSteps: 4, Seed: 1, CFG scale: high", 'no number after "CFG scale:"'),
    "half a size": ("a car\nSteps: 4, Seed: 1, Size: 64x", 'no size such as 512x768 after "Size:", but "64x"'),
    "an endless number": (f"a car\nSteps: 4, Seed: {'9' * 5000}", 'no number after "Seed:"'),
}


@pytest.mark.parametrize(("text", "message"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_text_is_refused_by_what_is_wrong_with_it(text, message):
    with pytest.raises(RequestError, match=message):
        webui.read(text)


class _Pipe:
    dtype = "torch.float32"
    device = type("device", (), {"type": "cpu"})


REQUESTS = {
    "plain": Request("a red car", seed=7),
    "weights": Request("a (red:1.3) car (hub:-0.5)", {"wheels": 1.2, "lights": 1.0}, seed=7, steps=3),
    "brackets and lines": Request("a car \\(old\\)\nat night", "signs (yellow: old)", guidance_scale=4.5),
    "not latin": Request("ein rotes Auto für 红 🚗", "Räder"),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_what_is_written_for_the_web_ui_reads_back_the_same(tmp_path, request_):
    picture = Image.new("RGB", (64, 32))
    origin = {"model": "tiny", "weights": "a" * 64, "dtype": "float32", "device": "cpu", "loras": []}
    metadata = provenance.describe(request_, Model(_Pipe(), origin), picture, request_.seed)
    provenance.write(tmp_path / "a.png", picture, metadata)
    text = provenance.text_chunks(tmp_path / "a.png")[webui.KEY]
    recipe = webui.read(text)
    again = Request(**recipe.repeat({"model": "tiny"}))
    assert again.wanted == request_.wanted
    assert (again.seed, again.steps, again.size) == (request_.seed, request_.steps, (64, 32))
    assert again.guidance_scale == max(1.0, request_.guidance_scale)
    assert recipe.model == "tiny"
    assert text.splitlines()[-1].startswith("Steps: ")


def test_a_sheet_and_a_heat_map_are_no_picture_of_one_prompt(tmp_path):
    provenance.write(tmp_path / "a.png", Image.new("RGB", (4, 4)), {"sheet": []})
    assert webui.KEY not in provenance.text_chunks(tmp_path / "a.png")
