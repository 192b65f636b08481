"""What every judge is asked and what it answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """Is the object there, with or without the part; and is the part, which was asked away, not there?"""

    object: str
    part: str


@dataclass(frozen=True)
class Verdict:
    """The answers to a question, how good the image looks otherwise (0 to 1), and what the judge saw.

    An image that cannot be read has no answers and no quality: they are None, not False or 0.
    """

    positive: bool | None
    negative: bool | None
    quality: float | None
    reason: str
