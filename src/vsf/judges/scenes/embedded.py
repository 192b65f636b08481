"""The scenes judge behind the common judge interface."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vsf._version import __version__
from vsf.errors import RequestError
from vsf.judges.base import Case, Judge, JudgeOptions, Question, Verdict
from vsf.judges.scenes.judge import WEIGHTS, answer, look
from vsf.tiny.scenes import OBJECTS, PARTS


@dataclass(frozen=True, kw_only=True)
class ScenesOptions(JudgeOptions):
    """Read the pictures of the embedded models, and of no other, on this machine."""

    def judge(self, cache: Path | None = None) -> Judge:  # noqa: ARG002 - reading is quick and free
        """Make the judge."""
        return ScenesJudge()


class ScenesJudge:
    """Reads the pictures of the embedded models. The `about` of a case names the object that was asked for."""

    name = "scenes"
    batch = 16
    waits = False

    def __init__(self) -> None:
        # The package's version stands for the code that reads and draws, the hash for the network.
        self.version = f"{__version__}+{hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:12]}"

    def __call__(self, cases: Sequence[Case]) -> list[Verdict]:
        """Read the images of all cases as one batch. Raises RequestError for a pair that is no synthetic scene."""
        for case in cases:
            if case.about.get("object") not in OBJECTS or _part(case) not in PARTS:
                raise RequestError(
                    f'the judge scenes knows synthetic scenes alone, and the pair of "{case.prompt}" does not say '
                    "which of its objects and parts are meant; take another --judge for this suite."
                )
        readings = look([case.image() for case in cases])
        verdicts = []
        for reading, case in zip(readings, cases, strict=True):
            verdicts.append(answer(reading, Question(case.about["object"], _part(case))))
        return verdicts


def _part(case: Case) -> str:
    return case.about.get("part", case.negative)
