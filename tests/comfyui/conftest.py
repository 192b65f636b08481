"""Hosts as fixtures, the table that a run on a real host writes, and what is said of tests that had none."""

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
    """Where the contract is tested."""
    if request.param == REAL and not HAS_HOST:
        pytest.skip(NO_HOST)
    return host_module(request.param)


@pytest.fixture(scope="session")
def real():
    """A real host alone."""
    if not HAS_HOST:
        pytest.skip(NO_HOST)
    return host_module(REAL)


@pytest.fixture
def worst():
    """Keep the largest error of a check on a model of a real host, for the table."""

    def keep(check: str, host, name: str, error: float) -> float:
        if host.VERSION != STUB:
            errors = _worst[name]
            errors[check] = max(error, errors.get(check, 0.0))
        return error

    return keep


@pytest.fixture
def peers():
    """Keep what the host's own node and this pack's did to a model, for the table."""

    def keep(name: str, **what) -> None:
        _peers[name] = what

    return keep


def pytest_sessionfinish(exitstatus):
    """Write the table of a run on a host that passed, where COMFYUI_TABLE asks for it; other hosts' rows stay."""
    if not (HAS_HOST and os.environ.get("COMFYUI_TABLE") and exitstatus == 0):
        return
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    own = results.setdefault(host_module(REAL).VERSION, {})
    for name, errors in _worst.items():
        own.setdefault("worst errors", {}).setdefault(name, {}).update(errors)
    own.setdefault("beside NAGuidance", {}).update(_peers)
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    TABLE.write_text(markdown(results))


def pytest_terminal_summary(terminalreporter):
    """Count what ran, and what was skipped for want of a host."""
    passed = [report for report in terminalreporter.getreports("passed") if "tests/comfyui/" in report.nodeid]
    skipped = [report for report in terminalreporter.getreports("skipped") if NO_HOST in str(report.longrepr)]
    if passed or skipped:
        where = f"{len(passed)} passed {'on stub and host' if HAS_HOST else 'on the stub'}"
        left_out = f", {len(skipped)} skipped ({NO_HOST})" if skipped else ""
        terminalreporter.write_line(f"comfyui: {where}{left_out}")
