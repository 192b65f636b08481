"""What a vision-language model is asked about an image, and how its answer is read. Change it, and raise VERSION."""

from __future__ import annotations

import json
from typing import Any

from vsf.judges.base import Case, Verdict

VERSION = "1"
TASK = """You check one picture against a short list of questions. Report what is visible, not what you would expect.

1. positive: {positive}
2. negative: {negative}
3. quality: how well made the picture is, from 0 (broken: smeared shapes, noise, things melting into each other) to 1 \
(clean and coherent). Something that is missing on purpose is no flaw: do not take quality off because of question 2.

The picture was to show: {prompt}
It was to leave out: {absent}

Answer with one JSON object: "reason" (what you see, in at most thirty words), "positive" (true or false, your answer \
to question 1), "negative" (true or false, your answer to question 2), "quality" (a number from 0 to 1)."""
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "reason": {"type": "string"},
        "positive": {"type": "boolean"},
        "negative": {"type": "boolean"},
        "quality": {"type": "number"},
    },
    "required": ["reason", "positive", "negative", "quality"],
    "additionalProperties": False,
}


def task(case: Case) -> str:
    """The text that goes with the image."""
    return TASK.format(
        positive=case.question_positive, negative=case.question_negative, prompt=case.prompt, absent=case.negative
    )


def verdict(text: str, *, tokens: int | None = None, cost: float | None = None) -> Verdict:
    """Read an answer; one that is not as asked for is unscored, and its reason says why. It is never guessed at."""
    try:
        answer = json.loads(_outermost_object(text))
        positive, negative, quality, reason = (answer[name] for name in ("positive", "negative", "quality", "reason"))
    except (ValueError, KeyError, TypeError, RecursionError):
        return _unscored(f"malformed answer: {text[:200]!r}", tokens, cost)
    if not (isinstance(positive, bool) and isinstance(negative, bool) and isinstance(reason, str)):
        return _unscored(f"malformed answer: {text[:200]!r}", tokens, cost)
    if isinstance(quality, bool) or not isinstance(quality, int | float) or not 0 <= quality <= 1:
        return _unscored(f"malformed answer: quality {quality!r} is no number from 0 to 1", tokens, cost)
    return Verdict(positive, negative, float(quality), reason, tokens, cost)


def _outermost_object(text: str) -> str:
    """The text from its first brace to its last: some models put a fence or a sentence around what was asked for."""
    start, end = text.find("{"), text.rfind("}")
    return text[start : end + 1] if 0 <= start < end else ""


def _unscored(reason: str, tokens: int | None, cost: float | None) -> Verdict:
    return Verdict(None, None, None, reason, tokens, cost)
