"""`vsf bench`: from a suite to rows, verdicts and frozen settings, through the real command."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from support import fake_endpoint as fake
from vsf.bench.run.manifest import read_manifest
from vsf.bench.run.rows import rows, verdicts
from vsf.bench.run.scored import scored
from vsf.cli import method_grammar

ROOT = Path(__file__).parents[2]
KEY = "sk-very-secret-0123456789"
PAIRS = [
    {
        "prompt": f"a {colour} car",
        "missing_element": "wheels",
        "question_1": "Is there a car, with or without wheels?",
        "question_2": "Are the wheels missing or out of sight?",
    }
    for colour in ("red", "green", "blue")
]


@pytest.fixture
def suite(tmp_path):
    file = tmp_path / "pairs.json"
    file.write_text(json.dumps(PAIRS))
    return file


@pytest.fixture
def run(vsf, folder, suite):
    def run(*words, methods="none,vsf:scale=2,offset=.5", steps=("--steps", 1), out="out"):
        fixed = ("--suite", suite, "--model", folder, "--size", 16, "--seeds", 2, "--threads", 1)
        return vsf("bench", "run", *fixed, *steps, "--methods", methods, "--out", out, *words)

    return run


def ask(vsf, endpoint, *words):
    settings = ("--judge", "openai", "--judge-model", "m", "--endpoint", endpoint.url, "--concurrency", 2)
    return vsf("bench", "judge", *settings, "--price", "1,2", "--out", "out", *words)


def test_run_and_judge_end_to_end_with_an_endpoint_that_misbehaves(run, vsf, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    code, out, err = run("--batch", 2)
    assert (code, out, err) == (0, "out: 12 images\n", "")
    drawn = rows(tmp_path / "out")
    assert {(row.label, row.pair, row.seed) for row in drawn} == {
        (label, f"pairs-{number:03d}", seed)
        for label in ("none", "vsf:scale=2,offset=.5")
        for number in (1, 2, 3)
        for seed in (0, 1)
    }
    assert {row.knobs["offset"] for row in drawn if row.method == "vsf"} == {0.5}
    assert {row.model for row in drawn} == {"random"}
    assert str(folder.parent) not in (tmp_path / "out" / "manifest.json").read_text()
    script = [fake.limited(), fake.breaks, fake.drops, fake.malformed, fake.refuses]
    with fake.serving(script) as endpoint:
        code, out, err = ask(vsf, endpoint)
        assert (code, err) == (0, "")
        assert out.startswith("out: 12 images judged, 2 unscored (")
        assert "1 malformed answer" in out
        assert "1 refused" in out
        assert "12000 tokens, 0.0132 US dollars" in out
        calls = len(endpoint.calls)
        assert calls == 12 + 3
        code, out, _ = ask(vsf, endpoint, "--json")
        assert len(endpoint.calls) == calls
        assert json.loads(out)["unscored"] == {"malformed answer": 1, "refused": 1}
    found = scored(tmp_path / "out")
    assert [score.positive for score in found].count(None) == 2
    assert [score.quality for score in found].count(0.75) == 10
    assert not any(KEY.encode() in file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file())


def test_the_same_command_again_draws_nothing_and_another_one_goes_on(run, tmp_path):
    run("--prompts", 2)
    before = rows(tmp_path / "out")
    assert run("--prompts", 2)[0] == 0
    assert rows(tmp_path / "out") == before
    run()
    assert rows(tmp_path / "out")[: len(before)] == before
    assert len(rows(tmp_path / "out")) == 12
    assert read_manifest(tmp_path / "out").conditions.batch == 1


def test_a_plan_may_stand_in_for_methods(run, tmp_path):
    mild, off = 'label = "mild"\nknobs = { scale = 0.5 }', 'label = "off"\nmethod = "none"\nsteps = 2'
    plan = f"[[settings]]\n{mild}\n[[settings]]\n{off}\n"
    (tmp_path / "plan.toml").write_text(plan)
    code, out, _ = run("--prompts", 1, "--json", methods="plan.toml")
    assert (code, json.loads(out)) == (0, {"folder": "out", "images": 4})
    assert {(row.label, row.steps) for row in rows(tmp_path / "out")} == {("mild", 1), ("off", 2)}


def test_a_frontier_is_swept_and_frozen_and_the_frozen_plan_runs(vsf, run, folder, suite, tmp_path):
    with fake.serving() as endpoint:
        judge = ("--judge", "openai", "--judge-model", "m", "--endpoint", endpoint.url)
        fixed = ("--suite", suite, "--prompts", 1, "--seeds", 1, "--steps", 1, "--model", folder, "--size", 16)
        sweep = ("--methods", "vsf:offset=1", "--frontier", 4, "--range", "1,4", "--keep", 2, "--out", "dev")
        sweep += ("--kept", 0)
        code, out, err = vsf("bench", "sweep", *fixed, *judge, *sweep)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "dev/frozen.json: 2 settings"
    assert {row.strength for row in rows(tmp_path / "dev")} == {1.0, 2.0, 3.0, 4.0}
    assert {row.knobs["offset"] for row in rows(tmp_path / "dev")} == {1.0}
    assert run("--prompts", 1, methods="dev/frozen.json", out="test")[0] == 0
    assert len(rows(tmp_path / "test")) == 4
    assert run("--prompts", 2, methods="dev/matched.json", out="test")[0] == 0
    assert len(rows(tmp_path / "test")) == 6  # one of the two settings on one pair more, two seeds


def test_a_plan_gives_each_of_its_curves_a_range_of_its_own(vsf, folder, suite, tmp_path):
    plan = '[[settings]]\nlabel = "A"\n[[settings]]\nlabel = "B"\nmethod = "nag"\n[ranges]\nA = [1, 3]\nB = [2, 10]'
    (tmp_path / "curves.toml").write_text(plan)
    with fake.serving() as endpoint:
        judge = ("--judge", "openai", "--judge-model", "m", "--endpoint", endpoint.url)
        fixed = ("--suite", suite, "--prompts", 1, "--seeds", 1, "--steps", 1, "--model", folder, "--size", 16)
        code, _, err = vsf(
            "bench", "sweep", *fixed, *judge, "--methods", "curves.toml", "--frontier", 2, "--out", "dev"
        )
    assert (code, err) == (0, "")
    assert {(row.label, row.strength) for row in rows(tmp_path / "dev")} == {
        ("A scale=1", 1.0),
        ("A scale=3", 3.0),
        ("B scale=2", 2.0),
        ("B scale=10", 10.0),
    }


def recipe(target, **given):
    """The `vsf bench` commands that `make TARGET NAME=VALUE ...` runs, each as its words."""
    values = [f"{name}={value}" for name, value in given.items()]
    lines = subprocess.run(["make", "-n", target, *values], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [shlex.split(line)[1:] for line in lines.splitlines() if line.startswith(".venv/bin/vsf bench ")]


def test_the_paper_is_repeated_end_to_end_on_a_model_of_random_weights(vsf, folder, tmp_path, monkeypatch):
    drawing, judging, reporting = recipe("bench-paper", MODEL=folder, JUDGE="m", OUT=tmp_path / "out")
    plan = drawing.index("--methods") + 1
    drawing[plan] = ROOT / drawing[plan]
    small = ("--prompts", 1, "--size", 16, "--steps", 1, "--threads", 1)
    assert vsf(*drawing, *small)[:2] == (0, f"{tmp_path / 'out'}: 14 images\n")
    labels = ["none", "NASA", "NAG", "NAG++", "VSF quality", "VSF strong", "VSF orthogonal"]
    assert [row.label for row in rows(tmp_path / "out")][::2] == labels
    trouble = [fake.sleeps(2.0), fake.limited(), fake.malformed, fake.no_json, fake.breaks, fake.drops, fake.refuses]
    with fake.serving(trouble) as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        code, out, err = vsf(*judging, "--concurrency", 2, "--timeout", 0.5)
        assert (code, err) == (0, "")
        assert out.startswith(f"{tmp_path / 'out'}: 14 images judged, 2 unscored (")
        assert all(told in out for told in ("1 malformed answer", "1 refused"))
        assert len(endpoint.calls) == 14 + 5
        assert vsf(*judging) == (0, out, "")
        assert len(endpoint.calls) == 14 + 5
    assert vsf(*reporting, "--reference", "VSF quality")[0] == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(label in page for label in labels)
    assert "2 of 14 images are unscored" in page
    assert not any(KEY.encode() in file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file())


def test_the_page_on_the_paper_names_the_command_and_its_other_commands_run(vsf, folder, tmp_path, monkeypatch):
    page = (ROOT / "docs" / "how-to" / "repeat-the-paper.md").read_text()
    (made,) = re.findall(r"make (bench-paper .*)", page)
    target, *given = made.split()
    drawing, judging, _ = recipe(target, **dict(word.split("=", 1) for word in given))
    assert judging[judging.index("--price") + 1] == "0.2,0.6"
    assert drawing[drawing.index("--model") + 1] == "stabilityai/stable-diffusion-3.5-large-turbo"
    plan = (ROOT / "benchmarks" / "plans" / "paper-cfg.toml").read_text()
    base = re.sub('model = ".*"', f'model = "{folder}"', plan).replace("steps = 28", "steps = 1")
    (tmp_path / "base.toml").write_text(base)
    small = {"run": ("--size", 16, "--prompts", 2, "--steps", 1, "--threads", 1), "judge": (), "report": ()}
    small["sweep"] = (*small["run"], "--frontier", 3)
    commands = re.findall(r"^vsf (bench .*)", page, re.MULTILINE)
    assert len(commands) == 7
    with fake.serving() as endpoint:
        monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
        for command in commands:
            words = command.replace("$MODEL", str(folder)).replace("$JUDGE", "m").split()
            words = ["base.toml" if word.endswith("paper-cfg.toml") else word for word in words]
            code, _, err = vsf(*words, *small[words[1]])
            assert (code, err) == (0, ""), command
    assert "matched on dev prompts" in (tmp_path / "runs" / "matched" / "report.html").read_text()


def test_a_judged_folder_is_reported(run, vsf, tmp_path):
    run("--prompts", 2)
    with fake.serving() as endpoint:
        ask(vsf, endpoint)
    code, out, _ = vsf("bench", "report", "out")
    assert code == 0
    assert out.endswith("\nout/report.html\n")
    table = {line.split("  ")[0]: line for line in out.splitlines()}
    assert "1.000 [1.000, 1.000]" in table["none"]
    assert "0.750 [0.750, 0.750]" in table["vsf:scale=2,offset=.5"]
    assert "At a positive score of 0.9" in out
    assert "vsf:scale=2,offset=.5" in (tmp_path / "out" / "report.html").read_text()
    code, out, _ = vsf("bench", "report", "out", "--out", "elsewhere", "--json")
    document = json.loads(out)
    assert (code, document["page"]) == (0, "elsewhere/report.html")
    assert [line["label"] for line in document["settings"]] == ["none", "vsf:scale=2,offset=.5"]
    assert document["settings"][0]["negative"] == 1.0
    assert {"p_holm", "negative_low"} <= document["matched"][0].keys()


def test_a_judge_that_nobody_reaches_is_an_error_and_does_not_stand_in_the_way_of_another(run, vsf, monkeypatch):
    monkeypatch.setattr("vsf.judges.openai.OpenAIJudge._seconds", lambda judge, state: 0.0)  # retries without waiting
    run("--prompts", 1)
    with fake.serving(otherwise=fake.drops) as dead:
        code, out, err = ask(vsf, dead)
    assert (code, out) == (2, "")
    assert err.startswith("error: not one of 4 images got a verdict; the first: no answer: ")
    with fake.serving() as endpoint:
        settings = ("--judge", "openai", "--judge-model", "other", "--endpoint", endpoint.url)
        assert vsf("bench", "judge", *settings, "--out", "out")[0] == 0
    assert vsf("bench", "report", "out")[0] == 0
    with fake.serving() as endpoint:
        ask(vsf, endpoint)
    code, _, err = vsf("bench", "report", "out")
    assert code == 2
    assert "was judged by openai:m, openai:other: say with --judge which one counts" in err


KEYLESS = {
    "judge": ("judge", "--judge", "openai", "--judge-model", "m", "--out", "out"),
    "sweep": ("sweep", "--suite", "tiny-dev", "--judge", "openai", "--judge-model", "m", "--out", "dev"),
    "new-suite": ("new-suite", "mine.jsonl", "--writer", "m"),
}


@pytest.mark.parametrize("words", KEYLESS.values(), ids=KEYLESS)
def test_a_missing_key_is_named_before_anything_is_done(vsf, words, tmp_path, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "MY_KEY"):
        monkeypatch.delenv(name, raising=False)
    code, out, err = vsf("bench", *words)
    assert (code, out) == (2, "")
    assert "no API key for api.openai.com" in err
    code, _, err = vsf("bench", *words, "--key-env", "MY_KEY", "--endpoint", "http://localhost:1/v1")
    assert code == 2
    assert '--key-env names the environment variable "MY_KEY", which is not set' in err
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_tells_what_there_is_to_draw_and_to_pay_and_does_nothing(run, vsf, tmp_path):
    told = run("--dry-run")[1]
    assert told.startswith("12 images, 12 to draw; how long that takes")
    assert not (tmp_path / "out").exists()
    assert run("--limit", 3)[1].startswith("out: 3 of 12 images; the same command without --limit")
    with fake.serving() as endpoint:
        assert ask(vsf, endpoint, "--limit", 1)[1].startswith("out: 1 images judged")
        told = ask(vsf, endpoint, "--dry-run")[1]
        price = "about 2000 tokens, 0.0022 US dollars, at the price of those judged so far"
        assert told == f"2 images for openai:m to judge: {price}\n"
        assert len(endpoint.calls) == 1
    drawing, judging = run("--dry-run")[1].splitlines()
    assert re.fullmatch(r"12 images, 9 to draw: about \d+ s, at the pace of those that are there", drawing)
    assert judging.startswith("9 images for openai:m to judge: about 9000 tokens")
    assert len(rows(tmp_path / "out")) == 3
    assert json.loads(run("--dry-run", "--json")[1])["drawing"]["missing"] == 9


def test_prompts_of_another_suite_are_refused(run, vsf, folder, tmp_path):
    run("--prompts", 1)
    (tmp_path / "other.json").write_text(json.dumps(PAIRS))
    fixed = ("--suite", "other.json", "--model", folder, "--size", 16, "--threads", 1, "--steps", 1)
    for dry in ((), ("--dry-run",)):
        code, _, err = vsf(
            "bench", "run", *fixed, "--methods", "none", "--prompts", 1, "--seeds", 2, "--out", "out", *dry
        )
        assert code == 2
        assert 'another suite: the pair "pairs-001" is not in the one asked for, whose "other-001" is not here' in err


def test_a_model_writes_further_pairs(vsf, tmp_path):
    told = {
        "teapot handle": "a round brown teapot on the worn oak table of a farm kitchen, steam rising from its spout "
        "into low morning sun, watercolour on rough paper",
        "bicycle wheels": "somebody leans a green racing bicycle against the stone wall of a harbour while gulls "
        "circle overhead, grainy evening photograph, long lens",
    }
    cases = [
        {
            "object": words.split()[0],
            "part": words.split()[1],
            "prompt": prompt,
            "question_positive": f"Is there a {words.split()[0]}?",
            "question_negative": f"Is no {words.split()[1]} visible?",
        }
        for words, prompt in told.items()
    ]
    with fake.serving(otherwise=lambda: (200, fake.answered({"pairs": cases}), {})) as endpoint:
        words = ("--count", 2, "--writer", "m", "--endpoint", endpoint.url)
        code, out, err = vsf("bench", "new-suite", "mine.jsonl", *words)
    assert (code, out, err) == (0, "mine.jsonl: 2 pairs\n", "")
    assert len((tmp_path / "mine.jsonl").read_text().splitlines()) == 2
    assert "name one with --writer" in vsf("bench", "new-suite", "mine.jsonl")[2]


def test_the_embedded_judge_is_asked_by_default(vsf, tmp_path):
    words = ("--suite", "tiny-dev", "--prompts", 1, "--seeds", 1, "--steps", 4, "--methods", "none,vsf:preset=strong")
    assert vsf("bench", "run", *words, "--out", "out")[0] == 0
    code, out, _ = vsf("bench", "judge", "--out", "out")
    assert code == 0
    assert out.startswith("out: 2 images judged")
    assert {verdict.judge for verdict in verdicts(tmp_path / "out")} == {"scenes"}


def test_one_command_draws_judges_measures_and_reports(vsf, tmp_path):
    words = ("--suite", "tiny-dev", "--prompts", 1, "--harmless", 1, "--seeds", 1, "--steps", 4)
    code, out, _ = vsf("bench", "once", *words, "--methods", "none,vsf:scale=4", "--out", "out", "--json")
    assert code == 0
    assert json.loads(out) == {"folder": "out", "images": 4, "page": "out/report.html"}
    scores = scored(tmp_path / "out")
    assert [score.verdict.checks is None for score in scores if score.verdict.is_readable] == [False] * 4
    assert [score.harmless is not None for score in scores] == [False, False, False, True]
    code, out, _ = vsf("bench", "study", "out", "people", "--count", 3)
    assert (code, out) == (0, "people/answers.csv: 3 pictures to answer\n")
    code, _, err = vsf("bench", "study", "out", "people", "--count", 3)
    assert (code, "exists already" in err) == (2, True)


def test_a_factorial_says_first_what_it_will_draw_and_then_freezes_a_setting_for_each_cell(vsf, tmp_path):
    words = ("--suite", "tiny-dev", "--steps", 2, "--methods", "none,nag", "--rounds", "2x1,1x2", "--out", "out")
    code, out, _ = vsf("bench", "factorial", *words, "--dry-run", "--json")
    document = json.loads(out)
    assert (code, document["cells"], document["images"], document["hours"]) == (0, 5, 2 + 4 * 3, None)
    assert set(document["left_out"]) == {"none, window", "none, context", "none, both"}
    assert not (tmp_path / "out").exists()
    code, out, _ = vsf("bench", "factorial", *words)
    assert code == 0
    told = out.splitlines()
    assert told[0].startswith("5 cells, 14 images: about ")
    assert told[1] == "left out: none, window, because it has no guidance in the attention"
    assert told[-1] == "out/frozen.json: 5 settings"
    assert len(rows(tmp_path / "out")) == 14


BAD = {
    "no suite": (("run", "--out", "out"), "no suite: give one with --suite: "),
    "unknown suite": (("run", "--suite", "tiny", "--out", "out"), 'there is no suite and no file "tiny"'),
    "no folder": (("run", "--suite", "tiny-dev"), "no folder: say with --out"),
    "unknown method": (("run", "--methods", "vfs"), 'unknown method "vfs"'),
    "unknown knob": (("run", "--methods", "vsf:scal=1"), 'no knob "scal"'),
    "unknown preset": (("run", "--methods", "vsf:preset=mild"), 'unknown preset "mild"'),
    "the same label twice": (("run", "--methods", "vsf,vsf"), "labels have to differ"),
    "no plan": (("run", "--methods", "none.toml"), "cannot read the plan"),
    "no image at all": (("run", "--limit", "0"), "--limit has to be a whole number from 1"),
    "no seeds": (("run", "--seeds", "0"), "--seeds has to be a whole number from 1"),
    "unknown engine": (("run", "--engine", "slurm"), '--engine is local or ray, got "slurm"'),
    "unknown model": (("run", "--model", "tine"), 'unknown embedded model "tine"'),
    "unknown dtype": (("run", "--dtype", "int8"), "dtype has to be one of"),
    "bad size": (("run", "--size", "big"), "size has to be a side"),
    "an unwritable folder": (("run", "--out", "/dev/null/x"), "cannot work in"),
    "nothing to judge": (("judge", "--out", "empty"), "there are no rows"),
    "unknown judge": (("judge", "--judge", "mcq", "--out", "x"), 'unknown judge "mcq"'),
    "no judge's model": (("judge", "--judge", "openai", "--out", "x"), "--judge-model"),
    "bad price": (("judge", "--judge", "scenes", "--price", "1", "--out", "x"), "--price has to be two numbers"),
    "no device for a judge": (("judge", "--judge-device", "gpu", "--out", "x"), "--judge-device is cpu, cuda"),
    "no time to answer": (("judge", "--timeout", "0", "--out", "x"), "--timeout is in seconds, more than 0"),
    "no such knob to sweep": (("sweep", "--frontier", "4", "--knob", "tau"), "no number called tau"),
    "a score to keep above one": (("sweep", "--frontier", "4", "--kept", "90"), "from 0 to 1, got 90"),
    "nothing to sweep": (("sweep", "--methods", "none"), '"none" has no number called scale to sweep'),
    "rounds without prompts": (("factorial", "--rounds", "16"), "--rounds are trials times prompts"),
    "rounds of too many prompts": (("factorial", "--rounds", "2x1,1x2", "--dry-run"), "the suite has 1"),
}


@pytest.mark.parametrize(("words", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_exit_code_2_and_leaves_no_folder(vsf, words, message, tmp_path):
    command, *rest = words
    if command != "judge" and "--suite" not in rest and message[:8] != "no suite":
        rest = ["--suite", "tiny-dev", "--prompts", "1", *rest]
    if command != "judge" and "--out" not in rest and message[:9] != "no folder":
        rest += ["--out", "out"]
    code, out, err = vsf("bench", command, *rest)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_comma_parts_methods_and_knobs_alike():
    assert method_grammar.split("none,vsf:scale=2,offset=.5,nag++") == ["none", "vsf:scale=2,offset=.5", "nag++"]
    assert method_grammar.split("vsf:scale=2:offset=.5 , nag") == ["vsf:scale=2:offset=.5", "nag"]


@pytest.mark.parametrize(
    "command", ["run", "judge", "sweep", "factorial", "measure", "once", "study", "report", "new-suite"]
)
def test_every_command_has_help_with_an_example(vsf, command):
    code, out, _ = vsf("bench", command, "--help")
    assert code == 0
    assert f"Example: vsf bench {command}" in out
