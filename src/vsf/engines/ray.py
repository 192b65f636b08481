"""An engine on a Ray cluster: one actor for each GPU, or for each group of CPUs."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vsf.engines.base import Engine, EngineOptions, Job, Result
from vsf.errors import RequestError, VsfError

LONGEST_CONNECT = 10.0  # seconds
ATTEMPTS = 3  # how often a job is run whose actor dies


def ray_cluster(options: EngineOptions) -> Engine:
    """Make the engine; nothing is connected yet."""
    return RayCluster(options.address, options.workers, options.threads)


@dataclass(frozen=True)
class RayCluster:
    """A running cluster that has this package installed on every machine.

    Attributes:
        address: As `ray.init` takes it, such as "auto" or "ray://host:10001".
        count: Number of actors; as many as fit if None.
        threads: CPUs of each actor if the cluster has no GPU.
    """

    address: str
    count: int | None = None
    threads: int = 1

    def map(self, work: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[Result]:
        """See `vsf.engines.base.Engine`. An actor that dies is restarted and its job is run again."""
        if not jobs:
            return
        self._check_address()
        import ray
        from ray.util import ActorPool

        try:
            # The connection stays open between calls, so a later one finds it.
            ray.init(address=self.address, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise self._no_cluster(str(error).splitlines()[0]) from error
        actors = self._start_actors(work, len(jobs))
        try:
            yield from ActorPool(actors).map_unordered(lambda actor, job: actor.do.remote(job), list(jobs))
        except ray.exceptions.RayTaskError as error:
            # Ray wraps a job's error; callers should get the error itself, as from the other engines.
            raise (error.cause if isinstance(error.cause, VsfError) else error) from None
        except ray.exceptions.RayActorError as error:
            raise RequestError(
                f"{ATTEMPTS} actors in a row died over the same job: out of memory, perhaps. Ask for a smaller --batch."
            ) from error
        finally:
            for actor in actors:
                ray.kill(actor)

    def _check_address(self) -> None:
        """Raise RequestError if nothing listens at the address; Ray itself would try for minutes."""
        match = re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d+)", self.address)
        if match is None:
            return
        try:
            socket.create_connection((match[1], int(match[2])), timeout=LONGEST_CONNECT).close()
        except (OSError, OverflowError) as error:
            raise self._no_cluster(f"{error}.") from error

    def _no_cluster(self, reason: str) -> RequestError:
        return RequestError(
            f'there is no Ray cluster at "{self.address}": {reason} '
            'Start one with "ray start --head", or give its --address.'
        )

    def _start_actors(self, work: Callable[[Job], Result], jobs: int) -> list[Any]:
        """Start as many actors as requested, or as fit, but no more than there are jobs."""
        import ray

        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        room = gpus or int(resources.get("CPU", 0)) // self.threads
        if room < (self.count or 1):
            raise RequestError(
                f"the Ray cluster has room for {room} workers ({gpus} GPUs, {resources.get('CPU', 0):g} CPUs, "
                f"{self.threads} for each), and {self.count or 1} were asked for: take fewer --workers or --threads."
            )
        actor_class: Any = ray.remote(_Actor)
        needs = {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": self.threads}
        actor_class = actor_class.options(**needs, max_restarts=-1, max_task_retries=ATTEMPTS - 1)
        return [actor_class.remote(work) for _ in range(min(self.count or room, jobs))]


class _Actor:
    """A worker in a process of its own."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        self.work = work

    def do(self, job: Any) -> Any:
        return self.work(job)
