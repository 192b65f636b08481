"""Engines by name."""

import pytest

from vsf.engines import InProcess, Processes
from vsf.engines.base import EngineOptions
from vsf.engines.ray import RayCluster
from vsf.engines.registry import ENGINES


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_is_made_from_options_alone_and_maps(name):
    assert callable(ENGINES[name](EngineOptions()).map)


def test_one_worker_needs_no_further_process():
    assert isinstance(ENGINES["local"](EngineOptions()), InProcess)
    assert ENGINES["local"](EngineOptions(workers=3)) == Processes(3)


def test_a_cluster_is_asked_for_its_workers_at_its_address():
    options = EngineOptions(workers=2, threads=4, address="ray://host:10001")
    assert ENGINES["ray"](options) == RayCluster("ray://host:10001", 2, 4)
