"""How far a benchmark is: how many are done, at what rate, and how long the rest will take."""

import io

import pytest
from rich.console import Console

from vsf.cli import console
from vsf.cli.bench import command as bench


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def shown(monkeypatch):
    """What a terminal shows after ticks of (seconds since the last one, done, total)."""
    clock, screen = Clock(), io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=120, color_system=None, get_time=clock)
    monkeypatch.setattr(console, "stderr", terminal)

    def show(*ticks, quiet=False):
        with bench.progress("drawing", "images", quiet=quiet) as tick:
            for seconds, done, total in ticks:
                clock.now += seconds
                tick(done, total)
        return screen.getvalue()

    return show


def test_rate_and_time_left_are_shown_of_images_that_take_minutes(shown):
    text = shown((0, 0, 10), (120, 1, 10), (120, 2, 10), (120, 3, 10))
    assert "3/10" in text
    assert "120.0 s each" in text
    assert "0:14:00" in text


def test_what_an_earlier_run_did_makes_nothing_look_fast(shown):
    text = shown((0, 900, 1000), (1, 901, 1000), (0.5, 902, 1000), (0.5, 904, 1000))
    assert "2.0/s 0:00:48" in text
    assert "904/1000" in text


def test_a_quiet_command_shows_no_bar(shown):
    assert shown((0, 0, 2), (1, 1, 2), quiet=True) == ""
