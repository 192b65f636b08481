"""The interface of engines, which run independent jobs, and the options that they can be given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class Engine(Protocol):
    """Runs jobs that do not depend on each other."""

    def map(self, work: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """Run every job and yield the results in any order.

        Args:
            work: Does one job. Every worker has its own copy, which may keep state, such as a loaded model.
            jobs: The arguments of `work`, one call each.

        Raises:
            RequestError: Workers keep dying.
            Exception: Anything that `work` raises.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Limits on the machine or cluster that an engine uses.

    Attributes:
        workers: Number of processes or actors; None is the engine's own default.
        threads: CPU threads of each worker.
        address: Address of a cluster.
    """

    workers: int | None = None
    threads: int = 1
    address: str = "auto"
