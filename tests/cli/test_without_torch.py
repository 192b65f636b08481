"""What needs no torch: help, and errors in names, files and settings."""

import json
import subprocess
import sys
import time

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vsf.cli import index

SCRIPT = """
import json, sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "diffusers", "transformers", "numpy"):
            raise AssertionError(f"{name} was imported")

sys.meta_path.insert(0, Forbidden())
from vsf.cli import main
results = []
for words in json.loads(sys.argv[1]):
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        from vsf.cli import console
        console.stderr.file = err
        try:
            main(words)
        except SystemExit as end:
            results.append([end.code, out.getvalue(), err.getvalue()])
print(json.dumps(results))
"""
BAD = {
    "a missing image": (["--image", "none.png"], 'no image file "none.png"'),
    "an image that is none": (["--image", "text.png"], 'cannot read the image "text.png"'),
    "an image of another size": (["--image", "large.png"], "tiny draws 64x64 pixels only, got 128x96"),
    "layers that are none": (["--layers", "a-b"], "layers are indices from 0"),
    "a fraction beyond the end": (["--start", "2"], "start is a number from 0 to 1"),
    "a missing mask": (["--mask", "none.png"], 'no mask file "none.png"'),
    "a mask that is none": (["--mask", "text.png"], 'cannot read the mask "text.png"'),
    "a misspelt model": (["--model", "tinny"], 'Did you mean "tiny"?'),
    "a missing folder": (["--model", "./none"], 'there is no model "./none"'),
    "a folder of something else": (["--model", "."], "has no model_index.json"),
    "a folder that lacks a part": (["--model", "half"], "model_index.json names transformer"),
    "a checkpoint that can run code": (["--model", "model.ckpt"], "has to be a .safetensors file"),
    "a size that is larger": (["--size", "512"], "tiny draws 64x64 pixels only, got 512x512"),
    "a size within the table of positions": (["--size", "128"], "tiny draws 64x64 pixels only, got 128x128"),
    "another shape": (["--width", "64", "--height", "32"], "tiny draws 64x64 pixels only, got 64x32"),
    "the teacher's size": (["--model", "tiny-base", "--size", "32"], "tiny-base draws 64x64 pixels only"),
    "a width alone": (["--width", "64"], "--width and --height go together"),
    "a size twice": (["--size", "64", "--width", "64", "--height", "64"], "not with both"),
    "a size that is none": (["--size", "16x"], "such as 64 or 512x768"),
    "an unknown method": (["--method", "vfs"], 'unknown method "vfs"'),
    "a knob that is no number": (["--method", "vsf:scale=much"], 'scale has to be a number, got "much"'),
    "an unknown dtype": (["--dtype", "fp8"], "dtype has to be one of auto"),
    "an unknown device": (["--device", "abacus"], "device has to be cpu"),
    "no steps": (["--steps", "0"], "steps has to be a whole number from 1"),
    "a bracket that is never closed": (["--negative", "(wheels"], "never closed"),
    "a missing lora": (["--lora", "none.safetensors"], 'no LoRA file "none.safetensors"'),
    "a missing picture to repeat": (["--like", "none.png"], 'cannot read "none.png"'),
    "a picture of nobody": (["--like", "large.png"], "was not made by vsf"),
    "parameters without a seed": (["--like", "foreign.png"], 'has no "Seed:"'),
    "a missing config": (["--config", "none.toml"], "cannot read the config file"),
}


@pytest.fixture
def run(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    Image.new("RGB", (128, 96)).save(tmp_path / "large.png")
    info = PngInfo()
    info.add_text("parameters", "a car\nSteps: 4")
    Image.new("RGB", (4, 4)).save(tmp_path / "foreign.png", pnginfo=info)
    (tmp_path / "model.ckpt").touch()
    (tmp_path / "half").mkdir()
    (tmp_path / "half/model_index.json").write_text('{"transformer": ["diffusers", "SD3Transformer2DModel"]}')

    def command(*lines):
        words = [sys.executable, "-c", SCRIPT, json.dumps(lines)]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return command


@pytest.mark.parametrize("name", ["generate", "compare"])
def test_what_is_cheap_to_refuse_is_refused_before_torch_is_imported(run, name):
    cases = {what: case for what, case in BAD.items() if name == "generate" or case[0][0] not in ("--method", "--like")}
    results = run(*([name, "a red car", *words] for words, _ in cases.values()))
    for (what, (_, message)), (code, out, err) in zip(cases.items(), results, strict=True):
        assert (what, code, out) == (what, 2, "")
        assert message in " ".join(err.split()), what
        assert "Traceback" not in err


def test_help_of_the_commands_that_draw_needs_no_torch(run):
    for code, out, _ in run(["generate", "--help"], ["generate", "-h"], ["compare", "-h"], ["-h"]):
        assert code == 0
        assert "Example: vsf " in out


@pytest.mark.slow
def test_help_of_generate_takes_a_second(tmp_path):
    """On a machine with nothing else to do."""
    words = [sys.executable, "-m", "vsf", "generate", "--help"]
    subprocess.run(words, check=True, capture_output=True)
    began = time.monotonic()
    subprocess.run(words, check=True, capture_output=True)
    assert time.monotonic() - began <= 1


def test_the_index_says_what_the_methods_declare():
    assert index.FILE.read_text(encoding="utf-8") == index.to_text(index.collect()), "run: python -m vsf.cli.index"
