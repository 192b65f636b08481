"""What every judge is asked and what it answers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Question:
    """Is the object there, with or without the part; and is the part, which was asked away, not there?"""

    object: str
    part: str


@dataclass(frozen=True)
class Verdict:
    """The answers to a question, how good the image looks otherwise (0 to 1), and what the judge saw.

    An image that cannot be read has no answers and no quality: they are None, not False or 0.

    tokens: that a language model read and wrote; cost: in US dollars; None where nothing counts them. `final` is False
    where the judge could not be reached, so that asking again may bring an answer.
    """

    positive: bool | None
    negative: bool | None
    quality: float | None
    reason: str
    tokens: int | None = None
    cost: float | None = None
    final: bool = True


@dataclass(frozen=True)
class Case:
    """One frame of an image file and what is asked of it.

    `about` is what a judge of the little world has to know: the object's name.
    """

    file: Path
    prompt: str
    negative: str
    question_positive: str
    question_negative: str
    about: Mapping[str, str] = field(default_factory=dict)
    frame: int = 0

    def image(self) -> Image:
        """The frame, in RGB. Raises OSError for a file that is not there or is no image."""
        from PIL import Image

        with Image.open(self.file) as file:
            file.seek(self.frame)
            return file.convert("RGB")

    def png(self) -> bytes:
        """The frame as a PNG file: the file itself where it holds nothing else. Raises OSError."""
        from PIL import Image

        with Image.open(self.file) as file:
            if file.format == "PNG" and getattr(file, "n_frames", 1) == 1:
                return self.file.read_bytes()
        stream = io.BytesIO()
        self.image().save(stream, format="PNG")
        return stream.getvalue()


class Judge(Protocol):
    """Gives one verdict per case. It is copied into every worker, and may be called from several threads.

    `name` tells judges apart; `version` changes whenever the same image could get another verdict. `batch` is how many
    cases it likes at a time; one that `waits` for a network is better called from many threads than from one.
    """

    name: str
    version: str
    batch: int
    waits: bool

    def __call__(self, cases: Sequence[Case]) -> list[Verdict]:
        """Answer each case. Raises RequestError where no case could be answered, such as for a key that is wrong."""
        ...
