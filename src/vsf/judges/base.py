"""The interface between the benchmark and its judges: questions, verdicts and the options a judge declares."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from vsf.errors import RequestError
from vsf.options import option

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Question:
    """An object that should be in an image, and a part of it that should be missing.

    Attributes:
        object: The object.
        part: The part.
        colour: Its colour; empty if any will do.
        place: Where it is; empty if anywhere will do.
        parts: Parts of it that have to be there.
        beside: A second object, right of the first; empty if there is none.
    """

    object: str
    part: str
    colour: str = ""
    place: str = ""
    parts: tuple[str, ...] = ()
    beside: str = ""


@dataclass(frozen=True)
class Verdict:
    """A judge's answers about one image; an unscored image has None for both answers and for quality, never False or 0.

    Attributes:
        image_hash: sha256 of the image file. Like `pair`, `judge` and `judge_version` it is filled in by the benchmark
            when it stores the verdict; a judge leaves these four empty.
        pair: Id of the prompt pair that the questions belong to.
        judge: Name of the judge.
        judge_version: Its version.
        positive: Whether the object is visible.
        negative: Whether the unwanted part is missing.
        quality: Quality of the image otherwise, from 0 to 1.
        reason: The judge's description of the image, or the cause of a missing score.
        tokens: Tokens that a language model read and wrote; None if nothing counts them.
        cost: US dollars; None if nothing counts them.
        final: False if the judge could not be reached, so that asking again may bring an answer.
        checks: Whether each further thing that the prompt asks for is as asked, by kind, such as "colour" or "place";
            None if the judge was not asked, empty if the prompt asks for nothing else.
        is_readable: False if the judge looked and could recognise nothing. The picture then has no other answer.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # for reading JSON, without needing pydantic

    image_hash: str = field(default="", kw_only=True)
    pair: str = field(default="", kw_only=True)
    judge: str = field(default="", kw_only=True)
    judge_version: str = field(default="", kw_only=True)
    positive: bool | None
    negative: bool | None
    quality: float | None
    reason: str
    tokens: int | None = None
    cost: float | None = None
    final: bool = True
    checks: Mapping[str, bool] | None = None
    is_readable: bool = True

    @property
    def success(self) -> bool | None:
        """True if everything that was asked for is there and what was asked away is gone; None if that is unknown.

        An unreadable picture is a failure.
        """
        if not self.is_readable:
            return False
        if self.positive is None or self.negative is None or self.checks is None:
            return None
        return self.positive and self.negative and all(self.checks.values())

    @property
    def damage(self) -> float | None:
        """The share of the checks that fail: the collateral damage; None without any check."""
        if not self.is_readable or not self.checks:
            return None
        return sum(not passed for passed in self.checks.values()) / len(self.checks)

    @property
    def is_scored(self) -> bool:
        """True if the judge answered."""
        return self.positive is not None

    @classmethod
    def unscored(
        cls, reason: str, *, tokens: int | None = None, cost: float | None = None, final: bool = True
    ) -> Verdict:
        """Make the verdict on an image that got no answers."""
        return cls(None, None, None, reason, tokens, cost, final)

    @classmethod
    def unreadable(cls, reason: str) -> Verdict:
        """Make the verdict on an image in which the judge recognises nothing."""
        return cls(None, None, None, reason, is_readable=False)


@dataclass(frozen=True)
class Case:
    """One frame of an image file, with the questions about it.

    Attributes:
        file: The image file.
        prompt: Prompt of the image.
        negative: Its negative prompt.
        question_positive: Yes-or-no question whether the object is there.
        question_negative: Yes-or-no question whether the unwanted part is missing.
        about: Further facts about the pair, such as the "object" and "part" that the scenes judge needs.
        frame: Index of the frame, 0 for a still image.
    """

    file: Path
    prompt: str
    negative: str
    question_positive: str
    question_negative: str
    about: Mapping[str, str] = field(default_factory=dict)
    frame: int = 0

    def image(self) -> Image:
        """Load the frame as RGB. Raises OSError if the file is missing or not an image."""
        from PIL import Image

        with Image.open(self.file) as file:
            file.seek(self.frame)
            return file.convert("RGB")

    def png(self) -> bytes:
        """Return the frame as a PNG file: the file's own bytes if it holds nothing else. Raises OSError."""
        from PIL import Image

        with Image.open(self.file) as file:
            # Of a clip the judge should see this frame only, so it is cut out and encoded again.
            if file.format == "PNG" and getattr(file, "n_frames", 1) == 1:
                return self.file.read_bytes()
        stream = io.BytesIO()
        self.image().save(stream, format="PNG")
        return stream.getvalue()


class Judge(Protocol):
    """Gives one verdict per case. It is copied into every worker process and may be called from several threads.

    Attributes:
        name: Identifies the judge in stored verdicts.
        version: Changes whenever the same image could get another verdict.
        batch: Number of cases it prefers per call.
        waits: Whether it mostly waits for a network, and so should be called from many threads.
    """

    name: str
    version: str
    batch: int
    waits: bool

    def __call__(self, cases: Sequence[Case]) -> list[Verdict]:
        """Answer each case.

        Raises:
            RequestError: No case can be answered, for instance because the API key is wrong.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """The options of one kind of judge, each declared with `option`; its docstring is the judge's entry in a list."""

    def judge(self, cache: Path | None = None) -> Judge:
        """Make the judge.

        Args:
            cache: Folder in which a judge that costs money keeps its answers; none are kept if not given.

        Raises:
            RequestError: An option that this judge needs is missing.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class LanguageModelOptions(JudgeOptions):
    """Options of every judge that asks a vision-language model."""

    judge_model: str | None = option("The vision-language model that judges.")

    def required_model(self) -> str:
        """Return the model's name. Raises RequestError if none was given."""
        if not self.judge_model:
            raise RequestError("this judge is a language model: say which one with --judge-model.")
        return self.judge_model
