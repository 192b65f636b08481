"""Analysis by synthesis: draw what was read, move it until it lies on the picture, and see how well it explains it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from vsf.judges.scenes.network import SIDE
from vsf.tiny.renderer import render
from vsf.tiny.scenes import Scene

Picture = Float[np.ndarray, "64 64 3"]

_GRAINS = (8, 4, 2, 1)  # pixels averaged before comparing: coarse first, so that a far start still finds its way
_LARGEST_MOVE = 2.5 / SIDE
_WEAK = 1e-3  # moves that change the drawing less than this, compared with the strongest, are not made


def draw(scene: Scene) -> Picture:
    """The scene as the renderer draws it, values from 0 to 1."""
    return np.asarray(render(scene, SIDE), dtype=np.float32) / 255


def difference(first: Picture, second: Picture) -> float:
    """The root mean square of the difference, 0 to 1."""
    return float(np.sqrt(np.mean(np.square(first - second))))


def agreement(first: Picture, second: Picture) -> float:
    """The correlation of the two over all pixels, channels put on the same mean; 0 when one of them is flat."""
    first, second = (picture - picture.mean(axis=(0, 1)) for picture in (first, second))
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float((first * second).sum()) / norm if norm > 1e-3 else 0.0


def fit(scene: Scene, picture: Picture) -> tuple[Scene, Picture]:
    """The scene with places, sizes and horizon moved to where its drawing is closest to the picture, and that drawing.

    Gauss-Newton on the pixels; the slopes are central differences, since an edge may have to go either way. A move that
    brings nothing is halved once.
    """
    drawing = draw(scene)
    for grain in _GRAINS:
        target, now = _coarse(picture, grain), _coarse(drawing, grain)
        nudge = grain / 2 / SIDE
        slopes = np.stack([_coarse(draw(up) - draw(down), grain).ravel() for up, down in _nudged(scene, nudge)])
        slopes /= 2 * nudge
        move = np.linalg.lstsq(slopes @ slopes.T, slopes @ (target - now).ravel(), rcond=_WEAK)[0]
        move = np.clip(move, -_LARGEST_MOVE, _LARGEST_MOVE)
        for step in (move, move / 2):
            moved = _moved(scene, step)
            attempt = draw(moved)
            if difference(_coarse(attempt, grain), target) < difference(now, target):
                scene, drawing = moved, attempt
                break
    return scene, drawing


def opacity(picture: Picture, there: Picture, gone: Picture) -> float:
    """How much of what differs between two drawings the picture shows: 0 is `gone`, 1 is `there`.

    It is the least-squares share of `there` in a blend of the two; .5 where both drawings are the same.
    """
    change = there - gone
    power = float(np.square(change).sum())
    return float(((picture - gone) * change).sum()) / power if power > 0 else 0.5


def _coarse(picture: Picture, grain: int) -> Float[np.ndarray, "side side 3"]:
    side = SIDE // grain
    return picture.reshape(side, grain, side, grain, 3).mean(axis=(1, 3))


def _nudged(scene: Scene, by: float) -> Iterator[tuple[Scene, Scene]]:
    """The scene with each of its knobs a nudge up and a nudge down."""
    for nudge in np.eye(1 + 2 * len(scene.things)) * by:
        yield _moved(scene, nudge), _moved(scene, -nudge)


def _moved(scene: Scene, move: Float[np.ndarray, " knobs"]) -> Scene:
    """The scene with its horizon, then x and size of each thing, changed by `move`."""
    horizon, *places = (float(value) for value in move)
    things = tuple(
        replace(thing, x=_within(thing.x + dx, 0, 1), size=_within(thing.size + grown, 0.2, 1))
        for thing, dx, grown in zip(scene.things, places[::2], places[1::2], strict=True)
    )
    return replace(scene, things=things, horizon=_within(scene.horizon + horizon, 0.4, 0.8))


def _within(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
