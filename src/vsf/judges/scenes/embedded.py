"""The scenes judge behind the common judge interface."""

from __future__ import annotations

import hashlib
import re
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
            verdicts.append(answer(reading, question_of(case)))
        return verdicts


def question_of(case: Case) -> Question:
    """Collect what the prompt of a scene asks for; parts that `about` does not list are read in the prompt."""
    about = case.about
    named = about["parts"].split() if "parts" in about else re.findall(r"[a-z]+", case.prompt.lower())
    removable = set(OBJECTS[about["object"]].parts) - {_part(case)}
    return Question(
        object=about["object"],
        part=_part(case),
        colour=about.get("colour", ""),
        place=about.get("place", about.get("background", "")),
        parts=tuple(part for part in named if part in removable),
        beside=about.get("beside", ""),
    )


def _part(case: Case) -> str:
    return case.about.get("part", case.negative)
