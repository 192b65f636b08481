"""Settings for all tests: no network, one thread, the same random numbers every time; what is said at their end."""

import os
import re
from collections import Counter

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
from hypothesis import HealthCheck, settings

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when Triton is first imported
torch.set_num_threads(1)
# Examples come slowly where a machine is busy; that says nothing about the code.
settings.register_profile("tests", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _same_random_numbers():
    torch.manual_seed(0)


def pytest_terminal_summary(terminalreporter):
    """Count the tests that the installed diffusers is too old for, by what it lacks; tests/host.py skips them."""
    reasons = [report.longrepr[2] for report in terminalreporter.getreports("skipped")]
    lacking = Counter(found[0] for reason in reasons if (found := re.search(r"diffusers \S+ has no \w+", reason)))
    for what, count in sorted(lacking.items()):
        terminalreporter.write_line(f"{count} skipped: {what}")
