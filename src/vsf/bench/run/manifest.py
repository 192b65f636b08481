"""A folder of rows: what its runs have in common, and who works in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from vsf.bench.plan import Setting
from vsf.bench.run import jsonl as journal
from vsf.bench.run.batch import Conditions
from vsf.errors import RequestError

if TYPE_CHECKING:
    from vsf.bench.suites.load import Pair

MANIFEST, LOCK = "manifest.json", ".lock"


class Manifest(BaseModel):
    """What the rows of a folder belong to. Later runs may add settings, pairs and models, and change none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    conditions: Conditions
    settings: dict[str, Setting]
    pairs: dict[str, dict[str, Any]]
    revisions: dict[str, str]

    @classmethod
    def of(
        cls, conditions: Conditions, settings: Sequence[Setting], pairs: Sequence[Pair], revisions: Mapping[str, str]
    ) -> Manifest:
        """The manifest of one run; settings by label, pairs by id, revisions of weights by model."""
        return cls(
            conditions=conditions,
            settings={setting.label: setting for setting in settings},
            pairs={pair.id: {**asdict(pair), "about": dict(pair.about)} for pair in pairs},
            revisions=dict(revisions),
        )

    def joined(self, other: Manifest) -> Manifest:
        """Both together. Raises RequestError where they contradict each other."""
        for name, value in self.conditions:
            if value != (asked := getattr(other.conditions, name)):
                raise RequestError(
                    f"the rows here were drawn with {name} {value}, and now {asked} is asked for: "
                    "rows of both cannot be compared. Ask for the same, or give another --out."
                )
        # Runs of one suite draw its first so many pairs, so the pairs of one of them are among those of the other.
        if not (self.pairs.keys() <= other.pairs.keys() or other.pairs.keys() <= self.pairs.keys()):
            earlier = min(self.pairs.keys() - other.pairs.keys())
            asked = min(other.pairs.keys() - self.pairs.keys())
            raise RequestError(
                f'the rows here belong to another suite: the pair "{earlier}" is not in the one asked for, whose '
                f'"{asked}" is not here. Scores of both would be averaged together: give another --out.'
            )
        for what in ("settings", "pairs", "revisions"):
            mine, others = getattr(self, what), getattr(other, what)
            if changed := [name for name in others if name in mine and mine[name] != others[name]]:
                raise RequestError(
                    f'the rows here were drawn with other {what} under the name "{changed[0]}": '
                    f"before {mine[changed[0]]}, now {others[changed[0]]}. Rename it, or give another --out."
                )
        both = {what: {**getattr(self, what), **getattr(other, what)} for what in ("settings", "pairs", "revisions")}
        return self.model_copy(update=both)


def manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder; None where no run has begun. Raises RequestError for one that cannot be read."""
    file = folder / MANIFEST
    try:
        return Manifest.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise RequestError(f'cannot work in "{folder}": {str(error).splitlines()[0]}.') from error


def pinned(folder: Path, asked: Manifest) -> None:
    """Write down what a run asks for, on top of what is there. Raises RequestError where that contradicts it."""
    there = manifest(folder)
    journal.write_json(folder / MANIFEST, asked if there is None else there.joined(asked))


def pairs(folder: Path) -> list[Pair]:
    """The pairs that a folder's rows were drawn for. Raises RequestError where no run has begun."""
    from vsf.bench.suites.load import Pair

    there = manifest(folder)
    if there is None:
        raise RequestError(f'"{folder}" holds no run: "vsf bench run --out {folder}" comes first.')
    return [Pair(**fields) for fields in there.pairs.values()]


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Keep a second run out of a folder, until the block is left or the process is gone. Raises RequestError."""
    with locked(folder / LOCK, str(folder), "wait for it, or give another --out"):
        yield


@contextmanager
def locked(lock: Path, what: str, advice: str) -> Iterator[None]:
    """Hold a lock file until the block is left or the process is gone.

    Raises:
        RequestError: another process holds it, or it cannot be written.
    """
    from filelock import FileLock, Timeout

    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=0):
            yield
    except Timeout as error:
        raise RequestError(f'another run is at work in "{what}"; {advice}.') from error
    except OSError as error:
        raise RequestError(f'cannot work in "{what}": {error.strerror or error}.') from error
