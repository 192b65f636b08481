"""A request refuses what cannot be drawn, before anything is loaded."""

import math

import pytest
from PIL import Image

import vsf
from vsf.errors import KnobError, PromptError, RequestError, UnknownNameError
from vsf.generation import Lora, Request
from vsf.text.prompt import Emphasis


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("prompt", "  ", "prompt is empty"),
        ("prompt", 3, "prompt has to be text"),
        ("prompt", "(wheels:-1)", "prompt is empty"),
        ("negative", None, "negative has to be text"),
        ("negative", ["wheels"], "or texts with their weights"),
        ("within", 3, "within has to be text, got 3"),
        ("schedule", 0.5, "schedule has to be a vsf.Schedule, got 0.5"),
        ("schedule", {"stop": 0.5}, "a schedule has start, end, curve, layers, over, and no 'stop'"),
        ("mask", 3, "mask has to be a path, got 3"),
        ("steps", 0, "steps has to be a whole number from 1"),
        ("steps", "8", "got '8'"),
        ("steps", True, "got True"),
        ("count", -1, "count has to be"),
        ("seed", -1, "seed has to be"),
        ("seed", 2**63, "seed has to be"),
        ("guidance_scale", math.nan, "guidance_scale has to be a number"),
        ("guidance_scale", -1.0, "guidance_scale has to be a number"),
        ("strength", 1.5, "strength has to be a number from 0 to 1"),
        ("dtype", "float8", "one of auto, float32"),
        ("offload", "disk", "one of none, model"),
        ("size", (64,), "a width and a height"),
        ("size", 5, "a width and a height, got 5"),
        ("size", "64", "a width and a height, got '64'"),
        ("knobs", [1], r"knobs has to map names to values.*got \[1\]"),
        ("knobs", {1: 2.0}, "knobs has to map names to values"),
        ("knobs", None, "knobs has to map names to values"),
        ("image", 3, "image has to be a path, got 3"),
        ("loras", ("a",), r"loras has to hold .*got \('a',\)"),
        ("loras", "a", "loras has to hold"),
        ("device", "meta", "device has to be cpu, cuda, cuda:N, mps or auto"),
        ("device", "cuda:", "device has to be cpu"),
        ("device", "cuda:0x", "device has to be cpu"),
        ("device", "", "device has to be cpu"),
        ("size", (64, 0), "height has to be"),
        ("size", (64, 64.0), "height has to be"),
    ],
)
def test_a_field_out_of_its_range_is_refused_by_name(field, value, words):
    with pytest.raises(RequestError, match=words):
        Request(**{"prompt": "a car", field: value})


def test_an_unknown_method_or_knob_is_refused():
    with pytest.raises(UnknownNameError, match="Known: none, vsf"):
        Request("a car", method="vfs")
    with pytest.raises(KnobError, match='no knob "scal"'):
        Request("a car", knobs={"scal": 1.0})
    with pytest.raises(KnobError, match="scale is a number from 0 to 10"):
        Request("a car", knobs={"scale": 11.0})


def test_the_last_image_of_the_largest_seed_still_has_a_seed():
    assert Request("a car", seed=2**63 - 1 - 3, count=3).seed == 2**63 - 4
    with pytest.raises(RequestError, match="seed"):
        Request("a car", seed=2**63 - 3, count=3)


def test_a_missing_image_and_a_strength_without_a_step_are_refused(tmp_path):
    with pytest.raises(RequestError, match="no image file"):
        Request("a car", image=tmp_path / "none.png")
    picture = tmp_path / "here.png"
    picture.touch()
    with pytest.raises(RequestError, match="leaves no step"):
        Request("a car", image=picture, strength=0.1, steps=4)


def test_a_lora_is_an_existing_safetensors_file_with_a_finite_weight(tmp_path):
    with pytest.raises(RequestError, match=r"has to be a \.safetensors file"):
        Lora(tmp_path / "style.bin")
    with pytest.raises(RequestError, match="no LoRA file"):
        Lora(tmp_path / "style.safetensors")
    file = tmp_path / "there.safetensors"
    file.touch()
    with pytest.raises(RequestError, match="finite"):
        Lora(file, math.inf)
    with pytest.raises(RequestError, match="finite number, got 'strong'"):
        Lora(file, "strong")
    with pytest.raises(RequestError, match="file has to be a path"):
        Lora(3)


def test_texts_are_taken_as_paths_and_lists_as_tuples(tmp_path):
    lora, picture = tmp_path / "there.safetensors", tmp_path / "here.png"
    lora.touch()
    picture.touch()
    request = Request("a car", size=[64, 32], image=str(picture), loras=[Lora(str(lora))])
    assert request == Request("a car", size=(64, 32), image=picture, loras=(Lora(lora),))
    assert request.image == picture


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0", "cuda:11", "mps", "auto"])
def test_every_device_that_is_promised_is_allowed(device):
    assert Request("a car", device=device).device == device


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"prompt": "a (red car"}, PromptError, "never closed"),
        ({"negative": {"wheels": -1.0}}, PromptError, "from 0 to 10"),
        ({"negative": {"wheels": "much"}}, PromptError, "a number from 0 to 10"),
        ({"preset": "best"}, UnknownNameError, 'unknown preset "best". Known: quality, strong'),
        ({"schedule": {"start": 0.8, "end": 0.2}}, KnobError, "start has to lie at or before end"),
        ({"schedule": {"end": 2}}, KnobError, "end is a number from 0 to 1, got 2"),
        ({"schedule": {"curve": "square"}}, KnobError, "curve is one of"),
        ({"schedule": {"layers": "a"}}, KnobError, "layers are indices"),
        ({"mask": (0, 0, 2, 1)}, KnobError, "a box"),
        ({"mask": (0.5, 0, 0.5, 1)}, KnobError, "a box"),
        ({"mask": (0, 0, 1)}, KnobError, "a box"),
    ],
)
def test_controls_out_of_their_range_are_refused(fields, error, words):
    with pytest.raises(error, match=words):
        Request(**{"prompt": "a car", **fields})


def test_negatives_of_prompt_and_field_are_taken_together():
    prompt = Request("a red car (wheels:-1.2) on snow", {"lights": 0.5, "wheels": 0.8}).wanted
    assert prompt == vsf.Prompt("a red car on snow", {"wheels": 2.0, "lights": 0.5})
    assert Request("a car", "wheels: all of them").wanted.negatives == {"wheels: all of them": 1.0}
    assert Request("a car", " ").wanted.negatives == {}


def test_the_context_of_a_negative_is_a_text_or_the_subject_of_the_prompt():
    assert Request("a car", "wheels").context is None
    assert Request("a car", "wheels", within="a van with {}").context == "a van with {}"
    assert Request("a (red:1.2) car on snow", "wheels", within="subject").context == "a red car with {}"
    with pytest.raises(PromptError, match="where the negative prompt belongs"):
        Request("a car", "wheels", within="a van")
    with pytest.raises(RequestError, match="has no context"):
        Request("a car", "wheels", within="subject", method="none", guidance_scale=4.0)


def test_a_prompt_object_is_as_good_as_its_spelling():
    prompt = vsf.Prompt("a (red) car", {"wheels": 0.5}, (Emphasis(2, 7, 1.3),))
    request = Request(prompt)
    assert request.wanted == prompt
    assert request == Request(str(prompt))


def test_a_prompt_object_is_kept_and_never_parsed(monkeypatch):
    monkeypatch.setattr(vsf.Prompt, "parse", lambda *_: pytest.fail("it was parsed"))
    prompt = vsf.Prompt("a red car", {"wheels": 0.5})
    request = Request(prompt, {"lights": 1.0, "wheels": 0.5})
    assert request.prompt is prompt
    assert request.wanted == vsf.Prompt("a red car", {"wheels": 1.0, "lights": 1.0})
    with pytest.raises(PromptError, match='weight of the negative "wheels" has to be a number from 0 to 10'):
        Request(prompt, {"wheels": 9.9})


def test_a_request_builds_its_method_once():
    request = Request("a car", knobs={"scale": 2.0})
    assert request.guidance() is request.guidance()


def test_a_schedule_may_be_given_by_its_fields():
    assert Request("a car", schedule={"end": 0.5, "layers": [1, 0]}).schedule == vsf.Schedule(end=0.5, layers=(0, 1))


def test_a_preset_fills_in_the_knobs_that_are_not_given():
    request = Request("a car", preset="quality", knobs={"scale": 3.0})
    filled = request.with_preset("tiny")
    assert filled.preset is None
    assert filled.knobs == {"scale": 3.0, "orthogonal": True}
    assert Request("a car", method="nag", preset="strong").with_preset("sd3").knobs["tau"] == 5.0
    with pytest.raises(UnknownNameError, match='no preset "quality" for the method ong'):
        Request("a car", method="ong", preset="quality").with_preset("sd3")
    plain = Request("a car")
    assert plain.with_preset("no family at all") is plain


def test_a_mask_is_read_before_anything_else_happens(tmp_path):
    file = tmp_path / "mask.png"
    with pytest.raises(RequestError, match="no mask file"):
        Request("a car", mask=file)
    file.write_text("not a picture")
    with pytest.raises(RequestError, match="cannot read the mask"):
        Request("a car", mask=str(file))
    Image.new("L", (4, 4), "black").save(file)
    with pytest.raises(RequestError, match="black all over"):
        Request("a car", mask=file)
    Image.new("L", (4, 4), "white").save(file)
    assert Request("a car", mask=str(file)).mask == file
    assert Request("a car", mask=[0, 0, 0.5, 1]).mask == (0, 0, 0.5, 1)


def test_the_method_none_leaves_the_negative_to_a_pipeline_that_has_guidance_of_its_own():
    assert Request("a car", negative="wheels", method="none", guidance_scale=4.0).host_negative == "wheels"
    assert Request("a car", negative="wheels", method="none").host_negative == ""
    assert Request("a car", negative="wheels", guidance_scale=4.0).host_negative == ""
    with pytest.raises(RequestError, match="knows no weights"):
        Request("a car", negative={"wheels": 0.5}, method="none", guidance_scale=4.0)
