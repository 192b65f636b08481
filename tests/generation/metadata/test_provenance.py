"""Metadata of a picture: read back as written, and refused if they are damaged or of another tool."""

import json
import math

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import vsf
from vsf.errors import RequestError
from vsf.generation import Lora, Model, Request
from vsf.generation.metadata import provenance
from vsf.generation.models import hash_file

PICTURE = Image.new("RGB", (4, 6), "red")
ORIGIN = {"model": "tiny", "weights": "a" * 64, "dtype": "float32", "device": "cpu", "loras": []}


def metadata(origin=ORIGIN, **fields):
    request = Request(**{"prompt": "a red car", "negative": "wheels “and” ü", "knobs": {"offset": math.inf}, **fields})
    return provenance.describe(request, Model(_Pipe(), origin), PICTURE, request.seed)


class _Pipe:
    dtype = "torch.float16"
    device = type("device", (), {"type": "cuda"})


def saved(path, chunk):
    info = PngInfo()
    info.add_itxt(provenance.KEY, chunk)
    PICTURE.save(path, pnginfo=info)
    return path


def test_what_is_read_is_what_was_written(tmp_path):
    written = metadata(seed=7)
    provenance.write(tmp_path / "a.png", PICTURE, written)
    read = provenance.read(tmp_path / "a.png")
    assert read == provenance.portable(written)
    assert read["knobs"]["offset"] == "inf"
    assert (read["seed"], read["size"], read["vsf"]) == (7, [4, 6], vsf.__version__)
    assert Image.open(tmp_path / "a.png").tobytes() == PICTURE.tobytes()
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_a_prompt_is_recorded_as_it_was_written():
    assert metadata(prompt="a (red) car")["prompt"] == "a (red) car"
    assert metadata(prompt=vsf.Prompt("a red (car)", {"hub": 0.5}))["prompt"] == "a red \\(car\\) (hub:-0.5)"


def test_a_request_survives_its_picture(tmp_path):
    request = Request("a red car", "wheels", knobs={"offset": math.inf, "scale": 1.1}, seed=7, steps=3, size=(4, 6))
    provenance.write(tmp_path / "a.png", PICTURE, provenance.describe(request, Model(_Pipe(), ORIGIN), PICTURE, 7))
    again = Request(**provenance.repeat(provenance.read(tmp_path / "a.png"), {}))
    assert again.guidance() == request.guidance()
    for name in ("prompt", "negative", "method", "seed", "steps", "size", "guidance_scale", "model"):
        assert getattr(again, name) == getattr(request, name)
    assert (again.dtype, again.device) == ("float32", "cpu")


def test_controls_survive_their_picture(tmp_path):
    mask = tmp_path / "mask.png"
    PICTURE.save(mask)
    for given, where in ((mask, {"mask": mask}), ((0.0, 0.0, 0.5, 1.0), {})):
        request = Request(
            "a red car (hub:-0.5)",
            {"wheels": 1.0, "lights": 0.5},
            schedule=vsf.Schedule(end=0.75, curve="cosine", layers="0-2"),
            mask=given,
            within="a van with {}",
        )
        provenance.write(tmp_path / "a.png", PICTURE, provenance.describe(request, Model(_Pipe(), ORIGIN), PICTURE, 0))
        again = Request(**provenance.repeat(provenance.read(tmp_path / "a.png"), where))
        assert (again.wanted, again.schedule, again.mask) == (request.wanted, request.schedule, request.mask)
        assert again.within == request.within


def test_single_controls_are_replaced():
    past = metadata(schedule={"start": 0.1, "end": 0.5}, mask=(0, 0, 0.5, 1))
    fields = provenance.repeat(past, {"schedule": {"end": 0.7}, "mask": (0, 0, 1, 0.5), "negative": {"lights": 2.0}})
    assert Request(**fields).schedule == vsf.Schedule(start=0.1, end=0.7)
    assert (fields["mask"], fields["negative"]) == ((0, 0, 1, 0.5), {"lights": 2.0})


def test_a_preset_replaces_the_knobs_of_the_picture():
    fields = provenance.repeat(metadata(knobs={"offset": 1.0}), {"preset": "strong", "knobs": {"scale": 2.0}})
    assert (fields["knobs"], fields["preset"]) == ({"scale": 2.0}, "strong")


def test_a_mask_has_to_be_the_same_file_unless_a_box_takes_its_place(tmp_path):
    mask, other = tmp_path / "mask.png", tmp_path / "other.png"
    PICTURE.save(mask)
    PICTURE.rotate(180).resize((3, 3)).save(other)
    past = metadata(mask=mask)
    assert str(tmp_path) not in str(past)
    assert provenance.repeat(past, {"mask": mask})["mask"] == mask
    assert provenance.repeat(past, {"mask": (0, 0, 1, 1)})["mask"] == (0, 0, 1, 1)
    for given in ({}, {"mask": other}, {"mask": tmp_path / "none.png"}):
        with pytest.raises(RequestError, match="give it with --mask"):
            provenance.repeat(past, given)
    assert provenance.repeat(metadata(), {"mask": other})["mask"] == other


def test_given_fields_replace_single_fields():
    fields = provenance.repeat(metadata(), {"seed": 9, "knobs": {"scale": 2.0}})
    assert fields["seed"] == 9
    assert fields["knobs"]["scale"] == 2.0
    assert fields["knobs"]["offset"] == math.inf
    other = provenance.repeat(metadata(), {"method": "nag", "knobs": {"tau": 2.0}})
    assert other["knobs"] == {"tau": 2.0}


def test_a_hub_model_is_repeated_at_its_revision():
    fields = provenance.repeat(metadata({**ORIGIN, "model": "owner/name", "revision": "abc", "weights": None}), {})
    assert fields["model"] == "owner/name@abc"


def test_weights_known_by_hash_have_to_be_given_and_to_match():
    nameless = metadata({**ORIGIN, "model": None})
    with pytest.raises(RequestError, match="--model"):
        provenance.repeat(nameless, {})
    given = {"model": "some/folder"}
    assert provenance.repeat(nameless, given)["model"] == "some/folder"
    provenance.check_weights(nameless, given, Model(None, {"weights": "a" * 64}))
    with pytest.raises(RequestError, match=r"wants aaaaaaaaaaaa\.\.\., the model has bbbbbbbbbbbb"):
        provenance.check_weights(nameless, given, Model(None, {"weights": "b" * 64}))


def test_the_embedded_model_has_to_be_the_same_unless_another_is_asked_for():
    with pytest.raises(RequestError, match="not the weights"):
        provenance.check_weights(metadata(), {}, Model(None, {"model": "tiny", "weights": "b" * 64}))
    provenance.check_weights(metadata(), {"model": "owner/name"}, Model(None, {"model": "owner/name"}))


def test_a_hub_model_at_another_revision_is_refused_unless_that_is_asked_for():
    past = metadata({**ORIGIN, "model": "owner/name", "revision": "abc", "weights": None})
    newer = Model(None, {"model": "owner/name", "revision": "def"})
    with pytest.raises(RequestError, match=r"wants abc\.\.\., the model has def"):
        provenance.check_weights(past, {"model": "owner/name"}, newer)
    provenance.check_weights(past, {"model": "owner/name@def"}, newer)
    provenance.check_weights(past, {}, Model(None, {"model": "owner/name", "revision": "abc"}))


def test_loras_and_images_have_to_be_the_same_files(tmp_path):
    lora, image = tmp_path / "style.safetensors", tmp_path / "start.png"
    lora.write_bytes(b"style")
    PICTURE.save(image)
    origin = {**ORIGIN, "loras": [{"sha256": hash_file(lora), "weight": 0.7}]}
    past = metadata(origin, image=image, strength=0.5)
    given = {"loras": (Lora(lora),), "image": image}
    fields = provenance.repeat(past, given)
    assert fields["loras"] == (Lora(lora, 0.7),)
    assert (fields["image"], fields["strength"]) == (image, 0.5)
    assert provenance.repeat(past, {**given, "loras": (Lora(lora, 0.2),)})["loras"] == (Lora(lora, 0.2),)
    for missing, words in (("loras", "--lora"), ("image", "--image")):
        with pytest.raises(RequestError, match=words):
            provenance.repeat(past, {name: value for name, value in given.items() if name != missing})
    lora.write_bytes(b"another style")
    with pytest.raises(RequestError, match="--lora"):
        provenance.repeat(past, given)


def test_a_file_that_is_no_picture_of_ours_is_refused(tmp_path):
    with pytest.raises(RequestError, match="cannot read"):
        provenance.read(tmp_path / "none.png")
    text = tmp_path / "text.png"
    text.write_text("no picture")
    with pytest.raises(RequestError, match="cannot read"):
        provenance.read(text)
    PICTURE.save(tmp_path / "photo.jpg")
    with pytest.raises(RequestError, match="cannot read"):
        provenance.read(tmp_path / "photo.jpg")
    PICTURE.save(tmp_path / "foreign.png")
    with pytest.raises(RequestError, match="not made by vsf"):
        provenance.read(tmp_path / "foreign.png")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": "7"}, "seed"),
        ({"prompt": None}, "prompt"),
        ({"model": ["a"]}, "model"),
        ({"knobs": []}, "knobs"),
        ({"loras": [{"sha256": 3}]}, "damaged"),
        ({"loras": ["a"]}, "damaged"),
        ({"size": [4]}, "size"),
        ({"steps": -1}, "steps"),
        ({"negative": 3}, "negative"),
        ({"schedule": [1]}, "schedule"),
        ({"schedule": {"stop": 1}}, "stop"),
        ({"mask": 3}, "mask"),
    ],
)
def test_damaged_metadata_is_refused(tmp_path, change, words):
    file = saved(tmp_path / "a.png", json.dumps({**provenance.portable(metadata()), **change}))
    with pytest.raises(RequestError, match=words):
        Request(**provenance.repeat(provenance.read(file), {}))


@pytest.mark.parametrize("chunk", ["no json", "[]", "3", '"text"', "{}"])
def test_metadata_of_another_shape_is_refused(tmp_path, chunk):
    with pytest.raises(RequestError, match="damaged"):
        provenance.read(saved(tmp_path / "a.png", chunk))


def test_a_contact_sheet_cannot_be_repeated(tmp_path):
    provenance.write(tmp_path / "sheet.png", PICTURE, {"sheet": [metadata()]})
    with pytest.raises(RequestError, match="sheet of several pictures"):
        provenance.read(tmp_path / "sheet.png")


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / "a.png"
    provenance.write(file, PICTURE, metadata())
    before = file.read_bytes()

    def half_way(self, stream, **settings):
        with open(stream, "wb") as out:
            out.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", half_way)
    with pytest.raises(RequestError, match="No space left on device"):
        provenance.write(file, PICTURE, metadata())
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_part_that_cannot_be_taken_away_does_not_hide_why_the_picture_was_not_written(tmp_path, monkeypatch):
    def full(self, stream, **settings):
        raise OSError(28, "No space left on device")

    def stuck(self, missing_ok=False):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image.Image, "save", full)
    monkeypatch.setattr(type(tmp_path), "unlink", stuck)
    with pytest.raises(RequestError, match="No space left on device"):
        provenance.write(tmp_path / "a.png", PICTURE, metadata())
