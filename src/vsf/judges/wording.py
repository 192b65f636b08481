"""The question put to a vision-language model about an image, and the parser of its answer.

Raise VERSION with every change of the text or the parser: stored verdicts of another version are not used.
"""

from __future__ import annotations

import json
from typing import Any

from vsf.judges.base import Case, Verdict

VERSION = "2"
TASK = """You check one picture against a short list of questions. Report what is visible, not what you would expect.

1. positive: {positive}
2. negative: {negative}
3. quality: how well made the picture is, from 0 (broken: smeared shapes, noise, things melting into each other) to 1 \
(clean and coherent). Something that is missing on purpose is no flaw: do not take quality off because of question 2.
4. rest: is everything else there that the picture was to show: every object, its colour, the place, how things stand \
to each other, and every part that the description names? What it was to leave out does not count here.

The picture was to show: {prompt}
It was to leave out: {absent}

Answer with one JSON object: "reason" (what you see, in at most thirty words), "positive" (true or false, your answer \
to question 1), "negative" (true or false, your answer to question 2), "quality" (a number from 0 to 1), \
"rest" (true or false, your answer to question 4)."""
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "reason": {"type": "string"},
        "positive": {"type": "boolean"},
        "negative": {"type": "boolean"},
        "quality": {"type": "number"},
        "rest": {"type": "boolean"},
    },
    "required": ["reason", "positive", "negative", "quality", "rest"],
    "additionalProperties": False,
}


def task(case: Case) -> str:
    """Write the text that goes with the image."""
    return TASK.format(
        positive=case.question_positive, negative=case.question_negative, prompt=case.prompt, absent=case.negative
    )


def verdict(text: str, *, tokens: int | None = None, cost: float | None = None) -> Verdict:
    """Parse an answer. One that does not follow the schema is unscored and its reason says why; nothing is guessed."""
    malformed = Verdict.unscored(f"malformed answer: {text[:200]!r}", tokens=tokens, cost=cost)
    try:
        answer = json.loads(_outermost_object(text))
        positive = answer["positive"]
        negative = answer["negative"]
        quality = answer["quality"]
        reason = answer["reason"]
        rest = answer["rest"]
    except (ValueError, KeyError, TypeError, RecursionError):  # the last of these for JSON that is nested too deeply
        return malformed
    are_booleans = all(isinstance(value, bool) for value in (positive, negative, rest))
    if not are_booleans or not isinstance(reason, str):
        return malformed
    # A bool is an int in Python, so True would pass as a quality of 1. NaN fails the comparison.
    if isinstance(quality, bool) or not isinstance(quality, int | float) or not 0 <= quality <= 1:
        message = f"malformed answer: quality {quality!r} is no number from 0 to 1"
        return Verdict.unscored(message, tokens=tokens, cost=cost)
    return Verdict(positive, negative, float(quality), reason, tokens, cost, checks={"rest": rest})


def _outermost_object(text: str) -> str:
    """Cut a text to its first opening and last closing brace: some models add a code fence or a sentence."""
    start = text.find("{")
    end = text.rfind("}")
    return text[start : end + 1] if 0 <= start < end else ""
