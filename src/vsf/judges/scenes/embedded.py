"""The judge of the little world, asked like every other judge."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from vsf._version import __version__
from vsf.errors import RequestError
from vsf.judges.base import Case, Question, Verdict
from vsf.judges.scenes.judge import WEIGHTS, answer, look
from vsf.tiny.scenes import OBJECTS, PARTS


class ScenesJudge:
    """Reads what the embedded models draw; a case says in `about` which object was asked for."""

    name = "scenes"
    batch = 16
    waits = False

    def __init__(self) -> None:
        self.version = f"{__version__}+{hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:12]}"

    def __call__(self, cases: Sequence[Case]) -> list[Verdict]:
        """Read the images of all cases together. Raises RequestError for a case of another world."""
        for case in cases:
            if case.about.get("object") not in OBJECTS or _part(case) not in PARTS:
                raise RequestError(
                    f'the judge scenes knows the little world alone, and the pair of "{case.prompt}" does not say '
                    "which of its objects and parts are meant; take another --judge for this suite."
                )
        readings = look([case.image() for case in cases])
        return [
            answer(reading, Question(case.about["object"], _part(case)))
            for reading, case in zip(readings, cases, strict=True)
        ]


def _part(case: Case) -> str:
    return case.about.get("part", case.negative)
