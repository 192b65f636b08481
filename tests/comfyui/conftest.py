"""Fixtures for hosts, the table that a run on a real host writes, and the summary of skipped tests."""

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest

from comfyui.hosts import HAS_HOST, NO_HOST, REAL, STUB, host_module
from comfyui.table import markdown

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "comfyui.json"
TABLE = ROOT / "apps" / "comfyui" / "compatibility.md"
_worst = defaultdict(dict)
_peers = {}


@pytest.fixture(scope="session", params=[STUB, REAL])
def host(request):
    """The stub and, if there is one, a real host: both must fulfil the contract."""
    if request.param == REAL and not HAS_HOST:
        pytest.skip(NO_HOST)
    return host_module(request.param)


@pytest.fixture(scope="session")
def real():
    """A real host."""
    if not HAS_HOST:
        pytest.skip(NO_HOST)
    return host_module(REAL)


@pytest.fixture
def worst():
    """Record the largest error of a check on a model of a real host, for the table."""

    def keep(check: str, host, name: str, error: float) -> float:
        if host.VERSION != STUB:
            errors = _worst[name]
            errors[check] = max(error, errors.get(check, 0.0))
        return error

    return keep


@pytest.fixture
def peers():
    """Record the effects of the host's own node and of this pack's on a model, for the table."""

    def keep(name: str, **what) -> None:
        _peers[name] = what

    return keep


def pytest_sessionfinish(exitstatus):
    """Write the table after a run on a host that passed, if COMFYUI_TABLE is set; other hosts' rows stay."""
    if not (HAS_HOST and os.environ.get("COMFYUI_TABLE") and exitstatus == 0):
        return
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    host_results = results.setdefault(host_module(REAL).VERSION, {})
    for name, errors in _worst.items():
        host_results.setdefault("worst errors", {}).setdefault(name, {}).update(errors)
    host_results.setdefault("beside NAGuidance", {}).update(_peers)
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    TABLE.write_text(markdown(results))


def pytest_terminal_summary(terminalreporter):
    """Count the tests that ran, and those that were skipped because there is no host."""
    passed = [report for report in terminalreporter.getreports("passed") if "tests/comfyui/" in report.nodeid]
    skipped = [report for report in terminalreporter.getreports("skipped") if NO_HOST in str(report.longrepr)]
    if passed or skipped:
        where = f"{len(passed)} passed {'on stub and host' if HAS_HOST else 'on the stub'}"
        left_out = f", {len(skipped)} skipped ({NO_HOST})" if skipped else ""
        terminalreporter.write_line(f"comfyui: {where}{left_out}")
