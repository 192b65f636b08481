"""The manifest of a run's folder, with everything that its rows share, and the lock that keeps other runs out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from vsf.bench.plan import Setting
from vsf.bench.run import jsonl
from vsf.bench.run.batch import Conditions
from vsf.errors import RequestError

if TYPE_CHECKING:
    from vsf.bench.suites.load import Pair

MANIFEST = "manifest.json"
LOCK = ".lock"


class Manifest(BaseModel):
    """The conditions, settings, pairs and models of a folder. A later run may add to the last three, not change them.

    Attributes:
        conditions: Shared by all rows.
        settings: By label.
        pairs: Fields of each pair, by id.
        revisions: Commit or hash of the weights, by model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    conditions: Conditions
    settings: dict[str, Setting]
    pairs: dict[str, dict[str, Any]]
    revisions: dict[str, str]

    @classmethod
    def of(
        cls, conditions: Conditions, settings: Sequence[Setting], pairs: Sequence[Pair], revisions: Mapping[str, str]
    ) -> Manifest:
        """Make the manifest of one run."""
        fields_of_pair = {}
        for pair in pairs:
            fields_of_pair[pair.id] = {**asdict(pair), "about": dict(pair.about)}
        return cls(
            conditions=conditions,
            settings={setting.label: setting for setting in settings},
            pairs=fields_of_pair,
            revisions=dict(revisions),
        )

    def joined(self, later: Manifest) -> Manifest:
        """Add a later run's manifest. Raises RequestError if the two contradict each other."""
        for name, value in self.conditions:
            later_value = getattr(later.conditions, name)
            if value != later_value:
                raise RequestError(
                    f"the rows here were drawn with {name} {value}, and now {later_value} is asked for: "
                    "rows of both cannot be compared. Ask for the same, or give another --out."
                )
        # Runs of one suite draw its first so many pairs, so the pairs of one of them are among those of the other.
        if not (self.pairs.keys() <= later.pairs.keys() or later.pairs.keys() <= self.pairs.keys()):
            missing = min(self.pairs.keys() - later.pairs.keys())
            new = min(later.pairs.keys() - self.pairs.keys())
            raise RequestError(
                f'the rows here belong to another suite: the pair "{missing}" is not in the one asked for, whose '
                f'"{new}" is not here. Scores of both would be averaged together: give another --out.'
            )
        union = {}
        for field in ("settings", "pairs", "revisions"):
            before = getattr(self, field)
            after = getattr(later, field)
            for name in after:
                if name in before and before[name] != after[name]:
                    raise RequestError(
                        f'the rows here were drawn with other {field} under the name "{name}": '
                        f"before {before[name]}, now {after[name]}. Rename it, or give another --out."
                    )
            union[field] = {**before, **after}
        return self.model_copy(update=union)


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of a folder; None if no run has begun there. Raises RequestError if it is damaged."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise RequestError(f'cannot work in "{folder}": {str(error).splitlines()[0]}.') from error


def update_manifest(folder: Path, addition: Manifest) -> None:
    """Add a run to the manifest of a folder. Raises RequestError if it contradicts the earlier ones."""
    earlier = read_manifest(folder)
    jsonl.write_json(folder / MANIFEST, addition if earlier is None else earlier.joined(addition))


def pairs(folder: Path) -> list[Pair]:
    """Read the pairs that a folder's rows were drawn for. Raises RequestError if no run has begun there."""
    from vsf.bench.suites.load import Pair

    manifest = read_manifest(folder)
    if manifest is None:
        raise RequestError(f'"{folder}" holds no run: "vsf bench run --out {folder}" comes first.')
    return [Pair(**fields) for fields in manifest.pairs.values()]


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Keep a second run out of a folder until the block is left or the process dies. Raises RequestError."""
    with locked(folder / LOCK, str(folder), "wait for it, or give another --out"):
        yield


@contextmanager
def locked(lock: Path, what: str, advice: str) -> Iterator[None]:
    """Hold a lock file until the block is left or the process dies.

    Args:
        lock: The file.
        what: The folder or file that it protects, for the message.
        advice: The way out while another process holds it, for the message.

    Raises:
        RequestError: Another process holds it, or it cannot be written.
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
