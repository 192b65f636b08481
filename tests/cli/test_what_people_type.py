"""Short flags, other tools' spellings, files of prompts, grids, lists and completion."""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from support.pictures import pixels_differ
from vsf.generation.metadata import provenance


def test_short_and_other_spellings_mean_the_same(vsf, folder):
    common = ("--model", folder, "--steps", 1)
    words = ("--negative", "wheels", "--size", "16x12", "--dtype", "bfloat16", "--out", "a.png")
    assert vsf("generate", "a car", *words, *common)[0] == 0
    words = ("--width", 16, "--height", 12, "--dtype", "bf16")
    assert vsf("generate", "a car", "-n", "wheels", "-o", "b.png", *words, *common)[0] == 0
    assert vsf("generate", "a car", "--negative-prompt", "wheels", "--output", "c.png", *words, *common)[0] == 0
    assert provenance.read("a.png") == provenance.read("b.png") == provenance.read("c.png")
    assert not pixels_differ("a.png", "b.png")


@pytest.mark.parametrize(("short", "full"), [("fp32", "float32"), ("fp16", "float16"), ("bf16", "bfloat16")])
def test_a_dtype_has_a_short_name(short, full):
    import vsf

    assert vsf.Request("a car", dtype=short) == vsf.Request("a car", dtype=full)


def test_a_size_in_flags_replaces_the_size_of_a_config_file(draw, vsf, folder, tmp_path):
    (tmp_path / "run.toml").write_text("size = [16, 12]\n")
    words = ("--config", "run.toml", "--width", 12, "--height", 16, "-o", "a.png")
    assert vsf("generate", "a car", "--model", folder, "--steps", 1, *words)[0] == 0
    assert Image.open("a.png").size == (12, 16)


@pytest.mark.parametrize("words", [["-h"], ["generate", "-h"], ["list", "-h"], ["bench", "-h"], ["bench", "run", "-h"]])
def test_help_has_a_short_flag_everywhere(vsf, words):
    code, out, _ = vsf(*words)
    assert (code, "Usage: vsf" in out) == (0, True)


PROMPTS = {
    "lines.txt": "a red car (wheels:-0.5)\n\na blue van\n",
    "lines.jsonl": '{"prompt": "a red car", "negative": {"wheels": 0.5}}\n"a blue van"\n',
    "list.json": '[{"prompt": "a red car", "negative": "(wheels:0.5)"}, {"prompt": "a blue van", "negative": []}]',
}


@pytest.mark.parametrize(("name", "text"), PROMPTS.items(), ids=PROMPTS)
def test_every_prompt_of_a_file_gets_its_picture(vsf, folder, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    words = ("--model", folder, "--size", 16, "--steps", 1, "--seed", 5, "--json")
    code, out, err = vsf("generate", "--prompts", name, "-n", "lights", *words)
    assert (code, err) == (0, "")
    entries = json.loads(out)
    assert [entry["file"] for entry in entries] == ["out/a-red-car-0001.png", "out/a-blue-van-0001.png"]
    assert [entry["seed"] for entry in entries] == [5, 5]
    text = provenance.text_chunks(tmp_path / entries[0]["file"])["parameters"]
    assert "Negative prompt: (wheels:0.5), lights" in text
    assert "Negative prompt: lights" in provenance.text_chunks(tmp_path / entries[1]["file"])["parameters"]


def test_prompts_of_a_file_may_be_numbered_and_drawn_several_times(vsf, folder, tmp_path):
    (tmp_path / "two.txt").write_text("a car\na car\n")
    words = ("--model", folder, "--size", 16, "--steps", 1, "--count", 2)
    assert vsf("generate", "--prompts", "two.txt", "-o", "x.png", *words)[0] == 0
    assert [provenance.read(f"x-000{number}.png")["seed"] for number in (1, 2, 3, 4)] == [0, 1, 0, 1]


BAD_FILES = {
    "missing.txt": (None, 'cannot read the prompt file "missing.txt"'),
    "empty.txt": ("\n \n", "holds no prompt"),
    "lines.csv": ("a car", "ends in .txt, .jsonl or .json"),
    "bad.jsonl": ('{"prompt": "a car"}\n{"prompt"', '"bad.jsonl", line 2: not valid JSON'),
    "number.jsonl": ("3", "expected an object like"),
    "field.jsonl": ('{"prompt": "a car", "seed": 1}', 'unknown field "seed"'),
    "object.json": ('{"prompt": "a car"}', "has to hold a list"),
    "deep.json": ("[" * 100_000, "not valid JSON"),
    "weight.json": ('["a car", {"prompt": "a (car"}]', "entry 2: "),
    "negative.json": ('[{"prompt": "a car", "negative": 3}]', "a negative prompt has to be text"),
}


@pytest.mark.parametrize(("name", "case"), BAD_FILES.items(), ids=BAD_FILES)
def test_a_bad_file_of_prompts_is_refused_by_its_line(vsf, tmp_path, name, case):
    text, message = case
    if text is not None:
        (tmp_path / name).write_text(text)
    code, out, err = vsf("generate", "--prompts", name)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_a_prompt_and_a_file_of_prompts_do_not_go_together(vsf, tmp_path):
    (tmp_path / "a.txt").write_text("a car")
    assert vsf("generate", "a van", "--prompts", "a.txt")[0] == 2


def test_a_sheet_can_be_a_grid_of_scales_and_seeds(vsf, folder):
    words = ("--model", folder, "--size", 16, "--steps", 1, "-n", "wheels", "-o", "a.png", "--json")
    methods = ("--methods", "none,vsf:orthogonal=true,nag:scale=2")
    code, out, _ = vsf("compare", "a car", *methods, "--scales", "1,3", "--seeds", "7,2", *words)
    cells = [(cell["method"], cell["knobs"].get("scale"), cell["seed"]) for cell in json.loads(out)["cells"]]
    columns = [("none", None), ("vsf", 1.0), ("vsf", 3.0), ("nag", 2.0)]
    assert code == 0
    assert cells == [(*column, seed) for column in columns for seed in (7, 2)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--scales", "1,much"), "--scales has to be numbers with commas"),
        (("--scales", "99"), "scale is a number from 0 to 10"),
        (("--seeds", "1.5"), "--seeds has to be whole numbers"),
        (("--seeds", "1", "--count", 2), "not with both"),
        (("--seeds", "-1"), "seed has to be a whole number from 0"),
    ],
)
def test_a_grid_that_is_none_is_refused(vsf, folder, words, message):
    code, _, err = vsf("compare", "a car", "-n", "wheels", "--model", folder, "--size", 16, *words)
    assert (code, message in err) == (2, True), err


def test_a_method_that_reads_the_negative_as_a_prompt_gets_its_context_written_into_it(vsf, folder):
    words = ("--model", folder, "--size", 16, "--steps", 1, "--within", "subject", "-o", "a.png", "--json")
    code, out, err = vsf("compare", "a red car on snow (hub:-1)", "-n", "wheels", "--methods", "none,vsf,cfg", *words)
    assert code == 0
    none, vsf_, cfg = json.loads(out)["cells"]
    assert (vsf_["negative"], vsf_["within"]) == ("wheels", "subject")
    assert cfg["negative"] == "a red car with hub, wheels"
    assert (cfg["prompt"], "within" in cfg, none["within"]) == ("a red car on snow", False, "subject")
    assert 'cfg reads a negative as a prompt: "a red car with hub, wheels".' in err


def test_the_pipelines_own_guidance_gets_the_whole_phrase_too(vsf, folder):
    words = ("--model", folder, "--size", 16, "--steps", 1, "--within", "a van with {}", "-o", "a.png", "--json")
    code, out, _ = vsf("compare", "a red car", "-n", "wheels", "--guidance-scale", 3, "--methods", "none,vsf", *words)
    assert code == 0
    assert [cell["negative"] for cell in json.loads(out)["cells"]] == ["a van with wheels", "wheels"]


def test_the_judge_says_below_each_picture_of_the_embedded_model_what_it_saw(vsf, folder):
    code, out, _ = vsf("compare", "a red car on snow", "-n", "wheels", "-o", "a.png", "--json")
    assert code == 0
    assert all("red" in cell["seen"] for cell in json.loads(out)["cells"])
    out = vsf("compare", "a car", "--model", folder, "--size", 16, "--steps", 1, "-o", "b.png", "--json")[1]
    assert not any("seen" in cell for cell in json.loads(out)["cells"])


def test_presets_are_listed_by_family(vsf):
    code, out, _ = vsf("list", "presets", "--family", "wan", "--json")
    assert code == 0
    assert {row["family"] for row in json.loads(out)} == {"wan"}
    for words, message in (
        (("presets", "--family", "wam"), 'Did you mean "wan"?'),
        (("methods", "--family", "wan"), "--family goes with vsf list presets"),
    ):
        code, _, err = vsf("list", *words)
        assert (code, message in err) == (2, True)


def test_suites_and_judges_are_listed(vsf):
    suites = {row["suite"]: row for row in json.loads(vsf("list", "suites", "--json")[1])}
    assert int(suites["tiny-dev"]["pairs"]) > 100
    judges = {row["judge"]: row["what it is"] for row in json.loads(vsf("list", "judges", "--json")[1])}
    assert set(judges) == {"scenes", "openai", "local"}
    assert all(judges.values())


def test_the_doctor_takes_a_hub_id_and_says_when_it_cannot_be_fetched(vsf):
    code, _, err = vsf("doctor", "owner/name")
    assert code == 2
    assert 'cannot fetch model_index.json of "owner/name" from the hub' in err
    assert "Traceback" not in err


def test_the_doctor_reads_the_settings_of_a_model_on_the_hub(vsf, folder, monkeypatch):
    import huggingface_hub

    downloads = []

    def download(hub_id, file, revision=None):
        downloads.append((hub_id, file, revision))
        return str(folder / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    code, out, _ = vsf("doctor", "owner/name@main", "--json")
    (denoiser,) = json.loads(out)
    assert (code, denoiser["family"]) == (0, "sd3")
    assert downloads == [("owner/name", file, "main") for file in ("model_index.json", "transformer/config.json")]


@pytest.mark.parametrize(
    ("line", "completed"), [("vsf gen", "generate"), ("vsf generate --sc", "--scale"), ("vsf bench r", "run")]
)
def test_the_shell_completes_commands_and_flags(line, completed):
    words = line.split()
    state = {"_VSF_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    run = subprocess.run(
        [sys.executable, "-m", "vsf"], env={**os.environ, **state}, capture_output=True, text=True, check=False
    )
    assert completed in run.stdout.split(), run.stderr


def test_completion_can_be_shown_and_installed(vsf):
    assert {"--install-completion", "--show-completion"} <= set(vsf("--help")[1].split())


def with_chunks(path, **chunks):
    info = PngInfo()
    for key, text in chunks.items():
        info.add_text(key, text)
    Image.new("RGB", (4, 4)).save(path, pnginfo=info)


def test_a_picture_of_another_tool_is_a_model_for_ours(vsf, folder, tmp_path):
    with_chunks(tmp_path / "web.png", parameters="a red car\nNegative prompt: wheels\nSteps: 2, Seed: 9, Size: 16x12")
    code, _, err = vsf("generate", "--like", "web.png")
    assert (code, "give a folder, a file or a hub id with --model" in err) == (2, True)
    code, _, err = vsf("generate", "--like", "web.png", "--model", folder, "-o", "a.png")
    assert code == 0
    assert "the picture was made by AUTOMATIC1111" in err
    read = provenance.read("a.png")
    assert (read["prompt"], read["negative"], read["steps"], read["seed"]) == ("a red car", "wheels", 2, 9)
    assert read["size"] == [16, 12]
    assert vsf("generate", "--like", "a.png", "--model", folder, "-o", "b.png")[0] == 0
    assert not pixels_differ("a.png", "b.png")


MALFORMED = {
    "a list": {"vsf": "[]"},
    "a number": {"vsf": "3"},
    "loras of another kind": {"vsf": '{"loras": [3]}'},
    "brackets without end": {"vsf": "[" * 100_000},
    "parameters without settings": {"parameters": "a car"},
    "a graph that is a list": {"prompt": "[]"},
    "a graph that is text": {"prompt": "a red car"},
    "an editor's graph of nothing": {"workflow": "{}"},
}


@pytest.mark.parametrize("chunks", MALFORMED.values(), ids=MALFORMED)
def test_malformed_metadata_are_one_clear_line(vsf, tmp_path, chunks):
    with_chunks(tmp_path / "a.png", **chunks)
    code, out, err = vsf("generate", "--like", "a.png", "--model", "tiny")
    assert (code, out) == (2, "")
    assert "a.png" in err
    assert not any(leak in err for leak in ("Traceback", "object has no attribute", "unsupported operand", "NoneType"))
