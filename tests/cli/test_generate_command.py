"""`vsf generate`, run as a user runs it: pictures, their metadata, and one clear line for what cannot be done."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from PIL import Image

import vsf as package
from support.pictures import pixels_differ
from vsf import guidance
from vsf.cli import generate as command
from vsf.generation.metadata import provenance
from vsf.text.prompt import Prompt


def test_a_picture_and_its_metadata_land_in_the_file(draw, tmp_path):
    code, out, err = draw("--negative", "wheels", "--scale", 1.5, "--offset", "-0.5", "--seed", 3, "--out", "a.png")
    assert (code, out, err) == (0, "a.png  (seed 3)\n", "")
    read = provenance.read(tmp_path / "a.png")
    assert read["prompt"] == "a red car"
    assert read["negative"] == "wheels"
    assert (read["method"], read["knobs"]["scale"], read["knobs"]["offset"]) == ("vsf", 1.5, -0.5)
    assert (read["seed"], read["steps"], read["size"], read["guidance_scale"]) == (3, 2, [16, 16], 0.0)
    assert (read["dtype"], read["vsf"], read["model"]) == ("float32", package.__version__, None)
    assert str(tmp_path) not in str(read)


def test_the_negative_acts_and_its_method_and_knobs_matter(draw):
    for name, words in {
        "none": ["--negative", "wheels", "--method", "none"],
        "vsf": ["--negative", "wheels"],
        "strong": ["--negative", "wheels", "--scale", 3],
        "orthogonal": ["--negative", "wheels", "--orthogonal"],
        "nag": ["--negative", "wheels", "--method", "nag", "--tau", 2],
        "empty": ["--negative", ""],
    }.items():
        assert draw("--out", f"{name}.png", *words)[0] == 0
    for name in ("vsf", "strong", "orthogonal", "nag"):
        assert pixels_differ(f"{name}.png", "none.png")
        assert name == "vsf" or pixels_differ(f"{name}.png", "vsf.png")
    assert not pixels_differ("empty.png", "none.png")


@pytest.mark.parametrize("count", [1, 2])
def test_a_picture_parses_its_prompt_once_and_builds_its_method_once(draw, monkeypatch, count):
    parsed, built = [], []
    parse, build = Prompt.parse, guidance.method
    monkeypatch.setattr(Prompt, "parse", lambda text, negatives=None: parsed.append(text) or parse(text, negatives))
    monkeypatch.setattr(guidance, "method", lambda name, **knobs: built.append(name) or build(name, **knobs))
    assert draw("--negative", "wheels", "--count", count, "--out", "a.png")[0] == 0
    assert parsed == ["wheels", "a red car"]  # the negative is a text of its own
    assert built == ["vsf"]


def test_several_pictures_are_numbered_and_each_knows_its_seed(draw, tmp_path):
    draw("--count", 2, "--seed", 5, "--out", "many.png")
    draw("--seed", 6, "--out", "one.png")
    assert [provenance.read(tmp_path / f"many-000{i}.png")["seed"] for i in (1, 2)] == [5, 6]
    assert not pixels_differ("many-0002.png", "one.png")


def test_a_folder_takes_the_first_free_numbers(draw):
    assert draw("--out", "new/folder")[1] == "new/folder/a-red-car-0001.png  (seed 0)\n"
    assert draw("--out", "new/folder")[1] == "new/folder/a-red-car-0002.png  (seed 0)\n"
    assert draw()[1] == "out/a-red-car-0001.png  (seed 0)\n"


def test_json_is_one_document_that_says_what_the_files_say(draw, tmp_path):
    code, out, err = draw("--negative", "wheels", "--offset", "inf", "--count", 2, "--out", "a.png", "--json")
    entries = json.loads(out)
    assert (code, err) == (0, "")
    assert [entry.pop("file") for entry in entries] == ["a-0001.png", "a-0002.png"]
    assert entries == [provenance.read(tmp_path / f"a-000{i}.png") for i in (1, 2)]


def test_like_repeats_every_pixel_and_the_metadata(draw, vsf, folder):
    draw("--negative", "wheels", "--scale", 2, "--seed", 4, "--guidance-scale", 3, "--out", "a.png")
    assert vsf("generate", "--like", "a.png", "--model", folder, "--out", "b.png")[0] == 0
    assert not pixels_differ("a.png", "b.png")
    assert provenance.read("a.png") == provenance.read("b.png")


def test_like_takes_single_fields_from_the_flags(draw, vsf, folder):
    draw("--negative", "wheels", "--scale", 2, "--out", "a.png")
    vsf("generate", "--like", "a.png", "--model", folder, "--seed", 1, "--offset", 1, "--out", "b.png")
    draw("--negative", "wheels", "--scale", 2, "--offset", 1, "--seed", 1, "--out", "c.png")
    assert not pixels_differ("b.png", "c.png")
    assert pixels_differ("b.png", "a.png")


def test_like_wants_the_same_weights(draw, vsf, folder, tmp_path):
    draw("--out", "a.png")
    code, _, err = vsf("generate", "--like", "a.png")
    assert code == 2
    assert "give the folder or file again with --model" in err
    changed = shutil.copytree(folder, tmp_path / "other")
    shutil.copy(changed / "text_encoder_2/model.safetensors", changed / "text_encoder/model.safetensors")
    code, _, err = vsf("generate", "--like", "a.png", "--model", changed)
    assert code == 2
    assert "not the weights that made the picture" in err


def test_like_says_when_another_version_made_the_picture(draw, vsf, folder, tmp_path):
    draw("--out", "a.png")
    past = {**provenance.read("a.png"), "vsf": "0.0.1"}
    provenance.write(tmp_path / "old.png", Image.open("a.png"), past)
    code, _, err = vsf("generate", "--like", "old.png", "--model", folder, "--out", "b.png")
    assert code == 0
    assert "made by vsf 0.0.1" in err


def test_a_picture_can_start_from_another(draw):
    draw("--out", "start.png")
    draw("--seed", 9, "--out", "noise.png")
    code, _, _ = draw("--seed", 9, "--image", "start.png", "--strength", 0.5, "--negative", "wheels", "--out", "b.png")
    assert code == 0
    assert pixels_differ("b.png", "noise.png")
    assert provenance.read("b.png")["strength"] == 0.5


def test_a_config_file_speaks_where_flags_are_silent(vsf, folder, tmp_path):
    (tmp_path / "run.toml").write_text(
        f'prompt = "a red car"\nnegative = "wheels"\nmodel = "{folder}"\nsize = [16, 12]\nsteps = 2\n'
        'guidance-scale = 2\nscale = 2\noffset = -0.5\nseed = 3\nout = "a.png"\n'
    )
    assert vsf("generate", "--config", "run.toml", "--seed", 4, "--scale", 3)[0] == 0
    read = provenance.read("a.png")
    assert (read["prompt"], read["negative"], read["size"]) == ("a red car", "wheels", [16, 12])
    assert (read["seed"], read["knobs"]["scale"], read["knobs"]["offset"]) == (4, 3.0, -0.5)
    assert read["guidance_scale"] == 2


def test_finished_pictures_stay_when_the_run_is_interrupted(draw, monkeypatch, tmp_path):
    home = sys.modules["vsf.generation"]
    draw_all = home.draw

    def interrupted(*arguments, **options):
        drawing = draw_all(*arguments, **options)
        yield next(drawing)
        raise KeyboardInterrupt

    monkeypatch.setattr(home, "draw", interrupted)
    code, out, err = draw("--count", 3, "--out", "a.png")
    assert (code, out) == (130, "a-0001.png  (seed 0)\n")
    assert "Traceback" not in err
    assert [file.name for file in tmp_path.glob("*.png")] == ["a-0001.png"]


BAD = {
    "unknown method": (["--method", "vfs"], 'unknown method "vfs"'),
    "unknown model": (["--model", "tinny"], 'Did you mean "tiny"?'),
    "unknown knob": (["--method", "nag", "--offset", 1], 'method "nag" has no knob "offset"'),
    "unknown flag": (["--scales", 1], "No such option: --scales"),
    "scale out of range": (["--scale", 11], 'scale is a number from 0 to 10, or "auto", got 11'),
    "scale that is no number": (["--scale", "nan"], 'scale is a number from 0 to 10, or "auto", got nan'),
    "knob with another choice": (["--layout", "papers"], "layout is one of 'paper', 'reference'"),
    "size not divisible": (["--size", "17x16"], "multiples of 2 for this model, got 17x16; the closest size is 16x16"),
    "size too large": (["--size", 64], "pos_embed_max_size"),
    "size that is none": (["--size", "16x"], "such as 64 or 512x768"),
    "negative count": (["--count", -1], "count has to be a whole number from 1"),
    "no steps": (["--steps", 0], "steps has to be a whole number from 1"),
    "missing image": (["--image", "none.png"], 'no image file "none.png"'),
    "missing lora": (["--lora", "none.safetensors"], 'no LoRA file "none.safetensors"'),
    "bad lora": (["--lora", "a.safetensors:strong"], "FILE or FILE:WEIGHT"),
    "pickled lora": (["--lora", "a.ckpt:1"], "has to be a .safetensors file"),
    "unknown dtype": (["--dtype", "fp8"], "dtype has to be one of auto, float32, float16, bfloat16, fp32, fp16, bf16"),
    "unknown device": (["--device", "abacus"], 'device has to be cpu, cuda, cuda:N, mps or auto, got "abacus"'),
    "device without data": (["--device", "meta"], 'mps or auto, got "meta"'),
    "strength of nothing": (["--strength", 0.5], "give the picture with --image"),
    "empty like": (["--like", ""], "--like is empty"),
    "empty out": (["--out", ""], "--out is empty"),
    "empty config": (["--config", ""], "--config is empty"),
    "empty image": (["--image", ""], "--image is empty"),
    "missing config": (["--config", "none.toml"], 'cannot read the config file "none.toml"'),
    "missing like": (["--like", "none.png"], 'cannot read "none.png"'),
    "output of another kind": (["--out", "a.jpg"], "should end in .png"),
    "output below a file": (["--out", "/dev/null/a.png"], 'cannot write to "/dev/null/a.png"'),
    "output nowhere": (["--out", "/proc/a.png"], 'cannot write to "/proc/a.png"'),
    "output with an endless name": (["--out", "a" * 300 + ".png"], "File name too long"),
}


@pytest.mark.parametrize(("words", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_clear_line_and_exit_code_2(draw, tmp_path, words, message):
    code, out, err = draw(*words)
    assert code == 2
    assert message in " ".join(err.split())
    assert out == ""
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize(
    ("words", "message"), [([], "no prompt"), ([""], "prompt is empty"), (["  "], "prompt is empty")]
)
def test_an_empty_prompt_is_refused(vsf, words, message):
    code, _, err = vsf("generate", *words)
    assert code == 2
    assert message in err


def test_a_picture_of_somebody_else_cannot_be_repeated(vsf, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "foreign.png")
    code, _, err = vsf("generate", "--like", "foreign.png")
    assert code == 2
    assert err.startswith('error: "foreign.png" was not made by vsf: it carries no "vsf" metadata to repeat, nor ')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = = 2", "is not valid TOML"),
        ("stesp = 2", 'unknown config entry "stesp". Known: prompt, negative, method'),
        ('like = "a.png"', 'unknown config entry "like"'),
        ('out = ""', "--out is empty"),
        ("strength = 0.5", "give the picture with --image"),
        ('steps = "2"', "steps has to be a whole number from 1 to 1000, got '2'"),
        ("prompt = 3", "prompt has to be text"),
        ('scale = "much"', "scale is a number from 0 to 10, or \"auto\", got 'much'"),
        ("size = [16]\nlora = 3", "has to be a .safetensors file"),
    ],
)
def test_a_bad_config_file_is_refused(vsf, tmp_path, text, message):
    (tmp_path / "run.toml").write_text(text)
    code, _, err = vsf("generate", *([] if "prompt" in text else ["a car"]), "--config", "run.toml")
    assert code == 2
    assert message in err


def test_a_model_folder_has_to_be_one_and_of_a_family(draw, tmp_path):
    code, _, err = draw("--model", tmp_path)
    assert code == 2
    assert "has no model_index.json" in err
    (tmp_path / "model_index.json").write_text('{"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}')
    (tmp_path / "unet").mkdir()
    code, _, err = draw("--model", tmp_path)
    assert code == 2
    assert "no family recognises DDPMPipeline. Supported: sd3" in err


def test_unwritable_output_is_found_before_anything_is_loaded(draw, monkeypatch):
    monkeypatch.setattr(command.console, "load_quietly", lambda *_, **__: pytest.fail("the model was loaded"))
    code, _, err = draw("--out", "/dev/null/a.png")
    assert code == 2
    assert "cannot write" in err


def test_a_negative_that_the_method_leaves_aside_is_said_to_be(draw):
    code, _, err = draw("--negative", "wheels", "--method", "none", "--out", "a.png")
    assert code == 0
    assert "ignores the negative prompt" in err


def test_words_the_embedded_model_never_learned_are_said_to_be_unknown(vsf):
    code, out, err = vsf("generate", "a red flumadiddle on snow", "--negative", "wheels, gizmos", "--out", "a.png")
    assert code == 0
    assert out.startswith("a.png  (seed 0)")
    assert "tiny does not know: flumadiddle, gizmos." in err


def test_the_embedded_model_is_the_default_and_repeats_itself(vsf):
    code, out, err = vsf("generate", "a red car on snow", "--negative", "wheels", "--out", "a.png")
    assert (code, err) == (0, "")
    assert "the judge saw a red" in out
    assert vsf("generate", "--like", "a.png", "--out", "b.png")[0] == 0
    assert not pixels_differ("a.png", "b.png")
    assert provenance.read("a.png")["model"] == "tiny"
    assert len(provenance.read("a.png")["weights"]) == 64


def test_a_file_name_as_long_as_the_file_system_takes_is_written(draw, tmp_path):
    name = "a" * 251 + ".png"
    assert draw("--out", name)[0] == 0
    assert [file.name for file in tmp_path.glob("*")] == [name]


@pytest.mark.parametrize(
    ("name", "message"), [("a" * 250, "File name too long"), ("folder", "there is a folder of that name")]
)
def test_a_numbered_name_that_cannot_be_written_is_found_before_anything_is_loaded(
    draw, monkeypatch, tmp_path, name, message
):
    monkeypatch.setattr(command.console, "load_quietly", lambda *_, **__: pytest.fail("the model was loaded"))
    (tmp_path / "folder-0002.png").mkdir()
    code, _, err = draw("--out", f"{name}.png", "--count", 2)
    assert code == 2
    assert message in err


def test_a_name_that_ends_in_a_slash_is_a_folder_in_spite_of_its_dot(draw):
    assert draw("--out", "runs.v2/")[1] == "runs.v2/a-red-car-0001.png  (seed 0)\n"


@pytest.mark.parametrize("words", [["--scale", 2], ["--method", "nag"]])
def test_a_knob_or_a_method_without_a_negative_is_said_to_change_nothing(draw, words):
    code, _, err = draw("--out", "a.png", *words)
    assert code == 0
    assert "there is no negative prompt" in err


def test_neither_a_plain_picture_nor_the_method_none_wants_a_negative(draw):
    for words in ([], ["--method", "none"]):
        assert draw("--out", "a.png", *words)[2] == ""


def test_like_says_when_other_packages_made_the_picture(draw, vsf, folder, tmp_path):
    draw("--out", "a.png")
    here = provenance.read("a.png")
    provenance.write(tmp_path / "old.png", Image.open("a.png"), {**here, "torch": "1.0", "diffusers": "0.9"})
    code, _, err = vsf("generate", "--like", "old.png", "--model", folder, "--out", "b.png")
    assert code == 0
    assert f"made by torch 1.0, diffusers 0.9; this is torch {here['torch']}, diffusers {here['diffusers']};" in err


def test_like_says_when_the_model_cannot_be_checked(draw, vsf, folder, tmp_path):
    draw("--out", "a.png")
    nameless = {name: value for name, value in provenance.read("a.png").items() if name != "weights"}
    provenance.write(tmp_path / "nameless.png", Image.open("a.png"), nameless)
    code, _, err = vsf("generate", "--like", "nameless.png", "--model", folder, "--out", "b.png")
    assert code == 0
    assert "does not say which model made it" in err
    assert vsf("generate", "--like", "a.png", "--model", folder, "--out", "b.png")[2] == ""


def test_like_notices_a_changed_scheduler(draw, vsf, folder, tmp_path):
    draw("--out", "a.png")
    changed = shutil.copytree(folder, tmp_path / "other")
    settings = changed / "scheduler/scheduler_config.json"
    settings.write_text(settings.read_text().replace('"shift": 1.0', '"shift": 3.0'))
    code, _, err = vsf("generate", "--like", "a.png", "--model", changed)
    assert code == 2
    assert "not the weights that made the picture" in err


@pytest.mark.slow
def test_from_command_to_file_takes_at_most_twenty_seconds(tmp_path):
    """On a machine with two cores and nothing else to do."""
    file = tmp_path / "a.png"
    began = time.monotonic()
    words = ["generate", "a red car on snow", "--negative", "wheels", "--out", str(file)]
    subprocess.run([sys.executable, "-m", "vsf", *words], check=True)
    assert time.monotonic() - began <= 20
    assert file.is_file()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_twenty_commands_at_once_leave_every_picture(tmp_path):
    words = [sys.executable, "-m", "vsf", "generate", "a red car on snow", "--steps", "2", "--count", "5", "--json"]
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    runs = [
        subprocess.Popen(
            [*words, "--seed", str(100 * run), "--out", "out"], cwd=tmp_path, stdout=subprocess.PIPE, env=settings
        )
        for run in range(20)
    ]
    entries = [entry for run in runs for entry in json.loads(run.communicate(timeout=1200)[0])]
    files = sorted(tmp_path.glob("out/*.png"))
    assert [run.returncode for run in runs] == [0] * 20
    assert sorted(entry["file"] for entry in entries) == [f"out/{file.name}" for file in files]
    assert {entry["file"]: entry["seed"] for entry in entries} == {
        f"out/{file.name}": provenance.read(file)["seed"] for file in files
    }
    assert len({entry["seed"] for entry in entries}) == len(files) == 100
    assert len(list((tmp_path / "out").iterdir())) == 100
