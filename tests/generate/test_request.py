"""A request refuses what cannot be drawn, before anything is loaded."""

import math

import pytest

from vsf.errors import KnobError, RequestError, UnknownNameError
from vsf.generate import Lora, Request


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("prompt", "  ", "prompt is empty"),
        ("prompt", 3, "prompt has to be text"),
        ("negative", None, "negative has to be text"),
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
    given = Request("a car", size=[64, 32], image=str(picture), loras=[Lora(str(lora))])
    assert given == Request("a car", size=(64, 32), image=picture, loras=(Lora(lora),))
    assert given.image == picture


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0", "cuda:11", "mps", "auto"])
def test_every_device_that_is_promised_is_allowed(device):
    assert Request("a car", device=device).device == device
