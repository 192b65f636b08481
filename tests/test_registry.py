import pytest

from vsf.errors import UnknownNameError
from vsf.registry import Registry

COLOURS = Registry("colour", {"red": 1, "green": 2})


def test_a_registry_reads_like_a_mapping():
    assert COLOURS["red"] == 1
    assert list(COLOURS) == ["red", "green"]
    assert len(COLOURS) == 2
    assert dict(COLOURS.items()) == {"red": 1, "green": 2}
    assert repr(COLOURS) == "Registry(colour: red, green)"


def test_membership_asks_without_raising():
    assert "red" in COLOURS
    assert "blue" not in COLOURS
    assert COLOURS.get("red") == 1


def test_an_unknown_name_lists_the_known_ones_and_suggests_the_closest():
    with pytest.raises(
        UnknownNameError, match=r'^unknown colour "Grren"\. Known: red, green\. Did you mean "green"\?$'
    ):
        COLOURS["Grren"]


def test_a_name_like_no_other_gets_no_suggestion():
    with pytest.raises(UnknownNameError, match=r"Known: red, green\.$"):
        COLOURS["xyzzy"]


def test_changing_the_source_does_not_change_the_registry():
    entries = {"red": 1}
    registry = Registry("colour", entries)
    entries["blue"] = 3
    assert list(registry) == ["red"]
