"""What a language model is asked, and that its answer is read or left alone, never guessed at."""

import json
from pathlib import Path

import pytest

from vsf.judges import wording
from vsf.judges.base import Case, Verdict

GOOD = {"reason": "a car", "positive": True, "negative": False, "quality": 0.5, "rest": True}


def test_the_task_holds_prompt_and_questions_also_when_they_hold_braces():
    case = Case(Path("x.png"), "a {red} car", "wheels", "Is there a {car}?", "Are there no wheels?")
    text = wording.task(case)
    for part in ("a {red} car", "wheels", "Is there a {car}?", "Are there no wheels?"):
        assert part in text


@pytest.mark.parametrize("around", ["{}", "```json\n{}\n```", "Here it is: {} I hope it helps."])
def test_an_answer_is_read_also_with_words_around_it(around):
    found = wording.verdict(around.replace("{}", json.dumps(GOOD)), tokens=7, cost=0.5)
    assert found == Verdict(True, False, 0.5, "a car", 7, 0.5, checks={"rest": True})


@pytest.mark.parametrize("quality", [0, 1])
def test_the_ends_of_quality_are_allowed(quality):
    assert wording.verdict(json.dumps({**GOOD, "quality": quality})).quality == float(quality)


BAD = {
    "nothing": "",
    "prose": "yes, and no",
    "cut off": '{"positive": true, "negative"',
    "a list": "[true, true, 1]",
    "a field missing": json.dumps({name: value for name, value in GOOD.items() if name != "negative"}),
    "text for a boolean": json.dumps({**GOOD, "positive": "true"}),
    "number for a boolean": json.dumps({**GOOD, "negative": 1}),
    "quality above 1": json.dumps({**GOOD, "quality": 7}),
    "quality below 0": json.dumps({**GOOD, "quality": -0.1}),
    "quality that is no number": json.dumps({**GOOD, "quality": True}),
    "quality that is not a number": '{"reason": "", "positive": true, "negative": true, "quality": NaN}',
    "nested without end": '{"reason": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "two objects": json.dumps(GOOD) * 2,
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_anything_else_is_unscored_and_its_cost_is_counted(text):
    found = wording.verdict(text, tokens=7, cost=0.5)
    assert (found.positive, found.negative, found.quality) == (None, None, None)
    assert found.reason.startswith("malformed answer: ")
    assert (found.tokens, found.cost, found.final) == (7, 0.5, True)
