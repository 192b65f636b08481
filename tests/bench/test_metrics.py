"""Metrics that compare a picture with the unguided one."""

import numpy as np
import pytest
from PIL import Image

from support import judged_folder
from vsf.bench import metrics
from vsf.bench.metrics import Change, Subject, measure
from vsf.bench.run.rows import measures
from vsf.bench.run.scored import scored
from vsf.errors import RequestError
from vsf.registry import Registry

CHANCES = {"none": ("none", 1.0, 0.0, 0.8), "vsf": ("vsf", 0.9, 0.8, 0.8)}


@pytest.fixture
def photo():
    return np.random.default_rng(0).random((32, 32, 3)).astype(np.float32)


def subject(picture, unguided, outside=None):
    return Subject(picture, unguided, np.ones((32, 32), dtype=bool) if outside is None else outside)


def test_equal_pictures_are_at_distance_zero_and_more_noise_is_farther(photo):
    rng = np.random.default_rng(1)
    distances = []
    for strength in (0.0, 0.05, 0.2, 1.0):
        noise = strength * rng.standard_normal(photo.shape)
        distances.append(Change()(subject((photo + noise).astype(np.float32), photo)))
    assert distances[0] == pytest.approx(0, abs=1e-9)
    assert distances == sorted(distances)
    assert 0.5 < distances[-1] < 1.5


def test_what_the_part_covers_does_not_count(photo):
    changed = photo.copy()
    changed[20:] = 0.5
    outside = np.ones((32, 32), dtype=bool)
    outside[16:] = False
    assert Change()(subject(changed, photo)) > 0.1
    assert Change()(subject(changed, photo, outside)) == pytest.approx(0, abs=1e-6)


def folder_of(tmp_path):
    pairs = [judged_folder.pair(index) for index in range(4)]
    return judged_folder.write(tmp_path / "run", CHANCES, pairs, side=32)


def test_every_guided_picture_is_measured_once_against_its_own_unguided_one(tmp_path, monkeypatch):
    folder = folder_of(tmp_path)
    monkeypatch.setattr(metrics.tiny, "MODELS", ())
    seen = []
    assert measure(folder, Change(), lambda done, total: seen.append((done, total))) == 8
    assert seen[-1] == (8, 8)
    assert len(measures(folder)) == 8
    assert measure(folder, Change(), lambda *_: None) == 8
    assert len(measures(folder)) == 8
    by_label = {}
    for score in scored(folder):
        by_label.setdefault(score.row.label, []).append(score.change)
    assert by_label["none"] == [None] * 8
    assert all(value > 0.5 for value in by_label["vsf"])  # two pictures of noise


def test_a_lost_picture_is_named(tmp_path, monkeypatch):
    folder = folder_of(tmp_path)
    monkeypatch.setattr(metrics.tiny, "MODELS", ())
    lost = next(score.row.image for score in scored(folder) if score.row.label == "vsf")
    (folder / lost).unlink()
    with pytest.raises(RequestError, match=r"cannot read the picture.*vsf"):
        measure(folder, Change(), lambda *_: None)


def test_the_part_is_found_by_the_judge_that_knows_the_embedded_models():
    from vsf.tiny.renderer import render
    from vsf.tiny.scenes import Scene, Thing

    scene = Scene((Thing("car", frozenset({"wheels", "windows"}), "red", 0.5, 0.7),), "snow")
    picture = np.asarray(Image.fromarray(np.asarray(render(scene)))) / np.float32(255)
    outside = metrics._outside_the_part(picture, {"object": "car", "part": "wheels"})
    assert outside.shape == picture.shape[:2]
    assert 0.02 < (~outside).mean() < 0.4
    assert metrics._outside_the_part(picture, {}).all()


class Point:
    def __init__(self, name, loaded):
        self.name = name
        self.value = "some_package:Judge"
        self.loaded = loaded

    def load(self):
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


def registry(monkeypatch, point):
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point] if group == "vsf.metrics" else [])
    return Registry("metric", {"change": Change}, plugins="vsf.metrics")


def test_an_installed_package_adds_an_entry(monkeypatch):
    assert list(registry(monkeypatch, Point("mine", int))) == ["change", "mine"]


@pytest.mark.parametrize(
    ("point", "message"),
    [
        (Point("change", int), 'calls itself "change", as another metric does'),
        (Point("mine", ImportError("no module x")), '"mine", a plug-in, cannot be imported: no module x'),
    ],
)
def test_a_plug_in_that_cannot_be_used_is_refused_by_name(monkeypatch, point, message):
    with pytest.raises(RequestError, match=message):
        registry(monkeypatch, point)
