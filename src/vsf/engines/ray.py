"""A Ray cluster: one actor for each GPU, or for each group of CPUs."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from vsf.errors import RequestError, VsfError

Job = TypeVar("Job")
Done = TypeVar("Done")
LONGEST_KNOCK = 10.0  # seconds
ATTEMPTS = 3  # how often a job is done whose actor does not survive it


@dataclass(frozen=True)
class RayCluster:
    """A running cluster, which has to have this package installed on every machine.

    address: as `ray.init` takes it, such as "auto" or "ray://host:10001". count: actors; None: as many as fit.
    threads: CPUs of each actor where the cluster has no GPU.
    """

    address: str
    count: int | None = None
    threads: int = 1

    def map(self, work: Callable[[Job], Done], jobs: Sequence[Job]) -> Iterator[Done]:
        """See `vsf.bench.run.draw.Engine`. An actor that dies is started again, and its job done again."""
        if not jobs:
            return
        self._knock()
        import ray
        from ray.util import ActorPool

        try:
            ray.init(address=self.address, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise self._nobody(str(error).splitlines()[0]) from error
        actors = self._actors(work, len(jobs))
        try:
            yield from ActorPool(actors).map_unordered(lambda actor, job: actor.do.remote(job), list(jobs))
        except ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, VsfError) else error) from None
        except ray.exceptions.RayActorError as error:
            raise RequestError(
                f"{ATTEMPTS} actors in a row died over the same job: out of memory, perhaps. Ask for a smaller --batch."
            ) from error
        finally:
            for actor in actors:
                ray.kill(actor)

    def _knock(self) -> None:
        """Raise RequestError where nobody listens at the address: Ray itself would try for minutes."""
        if named := re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d+)", self.address):
            try:
                socket.create_connection((named[1], int(named[2])), timeout=LONGEST_KNOCK).close()
            except (OSError, OverflowError) as error:
                raise self._nobody(f"{error}.") from error

    def _nobody(self, reason: str) -> RequestError:
        return RequestError(
            f'there is no Ray cluster at "{self.address}": {reason} '
            'Start one with "ray start --head", or give its --address.'
        )

    def _actors(self, work: Callable[[Any], Any], jobs: int) -> list[Any]:
        """As many actors as the cluster has room for, or as were asked for, each with its copy of the work."""
        import ray

        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0))
        room = gpus or int(there.get("CPU", 0)) // self.threads
        if room < (self.count or 1):
            raise RequestError(
                f"the Ray cluster has room for {room} workers ({gpus} GPUs, {there.get('CPU', 0):g} CPUs, "
                f"{self.threads} for each), and {self.count or 1} were asked for: take fewer --workers or --threads."
            )
        kind: Any = ray.remote(_Actor)
        needs = {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": self.threads}
        kind = kind.options(**needs, max_restarts=-1, max_task_retries=ATTEMPTS - 1)
        return [kind.remote(work) for _ in range(min(self.count or room, jobs))]


class _Actor:
    """One worker, in a process of its own."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work

    def do(self, job: Any) -> Any:
        return self.work(job)
