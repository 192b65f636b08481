"""Where and when a method acts, for all negatives and for single ones, and how strongly in the sound."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vsf.controls.region import Range, Region
from vsf.errors import KnobError


@dataclass(frozen=True, slots=True)
class Places:
    """The regions of the negatives.

    Attributes:
        region: where the method acts; None for everywhere.
        of_negatives: by text, where single negatives act; the others act everywhere.
        sound_strength: how strongly the method acts in the sound of a clip, as a factor of its strength, 0 to 1.

    Raises:
        KnobError: the strength is out of its range.
    """

    region: Region | None = None
    of_negatives: Mapping[str, Region] = field(default_factory=dict)
    sound_strength: float = 1.0

    def __post_init__(self) -> None:
        strength = self.sound_strength
        if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0 <= strength <= 1:
            raise KnobError(f"sound_strength is a number from 0 to 1, got {strength!r}")

    @classmethod
    def of(
        cls,
        mask: Any = None,
        frames: Range | Mapping[str, Range] | None = None,
        seconds: Range | Mapping[str, Range] | None = None,
        fps: float | None = None,
        sound_strength: float = 1.0,
    ) -> "Places":
        """Return the places of arguments that hold for all negatives, or each for single ones by their texts.

        Raises:
            KnobError: a mask or a time is not as `Region` takes it.
        """
        restrictions = {"mask": mask, "frames": frames, "seconds": seconds}
        of_all = {}
        of_texts: dict[str, dict[str, Any]] = {}
        for name, value in restrictions.items():
            if not isinstance(value, Mapping):
                of_all[name] = value
                continue
            for text, of_text in value.items():
                of_texts.setdefault(text, {})[name] = of_text
        if fps is not None and seconds is None:
            raise KnobError("fps= is for seconds=: leave it out, or give the time in seconds")
        of_negatives = {text: _region(parts, fps) for text, parts in of_texts.items()}
        acts_everywhere = all(value is None for value in of_all.values())
        region = None if acts_everywhere else _region(of_all, fps)
        return cls(region, of_negatives, sound_strength)

    @property
    def need_grid(self) -> bool:
        """True if it has to be known how image tokens lie in the picture."""
        return self.region is not None or bool(self.of_negatives)

    @property
    def are_timed(self) -> bool:
        """True if the clock of a clip is needed."""
        return any(region.is_timed for region in self._regions)

    @property
    def need_rate(self) -> bool:
        """True if the frames per second of a clip are needed."""
        return any(region.seconds is not None and region.rate is None for region in self._regions)

    def check_texts(self, texts: Sequence[Sequence[str]]) -> None:
        """Check that there is a negative for every text that has a place of its own.

        Args:
            texts: of the negatives of each prompt; empty where they are not known.

        Raises:
            KnobError: there is none.
        """
        negatives = {text for texts_of_prompt in texts for text in texts_of_prompt}
        for text in self.of_negatives:
            if text not in negatives:
                listed = ", ".join(f'"{name}"' for name in sorted(negatives)) or "not known"
                raise KnobError(
                    f'no negative is "{text}", for which a place or time is given; the negatives are {listed}'
                )

    @property
    def _regions(self) -> list[Region]:
        regions = list(self.of_negatives.values())
        return regions if self.region is None else [self.region, *regions]


def _region(parts: Mapping[str, Any], fps: float | None) -> Region:
    return Region(**parts, rate=fps if parts.get("seconds") is not None else None)
