"""The judge of synthetic scenes behind the interface of all judges."""

import pytest

from vsf.errors import RequestError
from vsf.judges.base import Case
from vsf.judges.scenes.embedded import ScenesJudge
from vsf.tiny.renderer import render
from vsf.tiny.scenes import Scene, Thing


@pytest.fixture
def files(tmp_path):
    for name, parts in {"with": {"wheels", "windows"}, "without": {"windows"}}.items():
        render(Scene((Thing("car", frozenset(parts), "red", 0.5, 0.7),), "snow")).save(tmp_path / f"{name}.png")
    return tmp_path


def case(file, about):
    return Case(file, "a red car on snow", "wheels", "?", "?", about)


def test_every_case_is_answered_in_order(files):
    cases = [case(files / f"{name}.png", {"object": "car"}) for name in ("with", "without")]
    cases.append(case(files / "with.png", {"object": "house", "part": "roof"}))
    verdicts = ScenesJudge()(cases)
    assert [(verdict.positive, verdict.negative) for verdict in verdicts] == [
        (True, False),
        (True, True),
        (False, True),
    ]
    assert "red car" in verdicts[0].reason
    assert (verdicts[0].tokens, verdicts[0].cost) == (None, None)


@pytest.mark.parametrize("about", [{}, {"object": "skateboard"}, {"object": "car", "part": "spoiler"}], ids=str)
def test_a_pair_of_another_world_is_refused(files, about):
    with pytest.raises(RequestError, match="take another --judge"):
        ScenesJudge()([case(files / "with.png", about)])


def test_the_version_follows_the_weights(monkeypatch, tmp_path):
    from vsf.judges.scenes import embedded

    before = ScenesJudge().version
    other = tmp_path / "reader.safetensors"
    other.write_bytes(b"other")
    monkeypatch.setattr(embedded, "WEIGHTS", other)
    assert ScenesJudge().version != before
