"""What the README shows runs, and what it points to is there."""

import importlib.util
import json
import re
import shlex
from pathlib import Path

import pytest
import torch

from vsf import tiny
from vsf.cli import main
from vsf.guidance import convert_reference
from vsf.judges.scenes.judge import look

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RESULTS = ROOT / "benchmarks" / "results"
OURS, REAL, CONTROLS, WORDS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


PROMPT, PART, SEED = "a red car on snow", "wheels", 1
SHOWN = [shlex.split(line, comments=True) for line in re.findall(rf'^vsf (.*"{PROMPT}.*)$', README, re.MULTILINE)]


def has_the_part(image):
    (reading,) = look([image])
    return PART in reading.scene.things[0].parts


def test_the_seed_is_the_first_whose_unguided_picture_has_the_part():
    pipe = tiny.load()
    drawn = []
    for seed in range(SEED + 1):
        generator = torch.Generator().manual_seed(seed)
        drawn.append(pipe(PROMPT, num_inference_steps=8, guidance_scale=0, generator=generator).images[0])
    assert [has_the_part(image) for image in drawn] == [False] * SEED + [True]


def test_the_demo_shows_what_the_readme_shows():
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    assert (demo.PROMPT, demo.NEGATIVE, demo.SEED) == (PROMPT, PART, SEED)
    assert {(request.prompt, request.seed) for request in demo.PAIR.values()} == {(PROMPT, SEED)}
    assert f'*"{PROMPT}", negative prompt "{PART}", eight steps, one model call per step, seed {SEED}:' in README


def test_the_lines_for_the_embedded_model_run_one_after_the_other_and_take_the_part_away(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for lines in (OURS, CONTROLS, WORDS):
        assert f"generator=torch.Generator().manual_seed({SEED})" in lines
        exec(lines, names)
        assert not has_the_part(names["out"].images[0])
    assert (tmp_path / "car.png").is_file()
    assert "guided in 6 denoiser calls" in capsys.readouterr().out


def test_every_line_for_the_command_draws_that_seed():
    assert len(SHOWN) == 3
    assert all(words[words.index("--seed") + 1] == str(SEED) for words in SHOWN)


@pytest.mark.parametrize("words", [words for words in SHOWN if words[0] == "generate"], ids=lambda words: words[3])
def test_the_lines_that_generate_take_the_part_away(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    assert f"the judge saw {PROMPT}, windows, no {PART}" in capsys.readouterr().out


def test_the_lines_for_a_real_model_parse_and_hold_the_converted_published_setting():
    compile(REAL, "README", "exec")
    scale, offset = convert_reference(3.5, 0.1)
    assert f"scale={scale:.2f}, offset={offset:.3f}" in REAL
    assert "generator=torch.Generator().manual_seed(" in REAL


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)]+)\)", README))
def test_every_link_points_to_something(target):
    assert (ROOT / target).exists()


def test_the_cost_on_a_gpu_is_what_was_measured():
    (told,) = re.findall(r"`vsf` (1\.07.*?)\*\*", README, re.DOTALL)
    rows = [json.loads(line) for line in (RESULTS / "h100-2026-11-28.jsonl").read_text().splitlines()]
    shown = {"wan 14B": 0, "wan 1.3B": 1, "flux.1 1024": 2, "sd3.5-large 1024 eager": 3, "qwen-image": 4, "sdxl": 5}
    numbers = [float(number) for number in re.findall(r"(?<![\d.])\d\.\d\d(?!\d)", told)]
    for first, method in ((0, "vsf"), (6, "nag")):
        for model, place in shown.items():
            found = [r for r in rows if r.get("model", "").startswith(model) and r.get("method") == method]
            assert numbers[first + place] == pytest.approx(found[0]["ratio"], abs=0.0051)


def test_it_stays_short():
    assert README.count("\n") <= 150
