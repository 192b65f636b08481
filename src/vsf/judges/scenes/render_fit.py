"""Analysis by synthesis: draw a scene, move it until it lies on the picture, and measure how well it explains it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from vsf.judges.scenes.network import SIDE
from vsf.tiny.renderer import render
from vsf.tiny.scenes import Scene

Picture = Float[np.ndarray, "64 64 3"]

_GRAINS = (8, 4, 2, 1)  # side of the blocks of pixels that are averaged: coarse first, so that a far start converges
_LARGEST_MOVE = 2.5 / SIDE  # beyond a few pixels the linear model of the drawing is not valid
_WEAK = 1e-3  # directions that change the drawing less than this, relative to the strongest, are left alone


def draw(scene: Scene) -> Picture:
    """Render a scene, values from 0 to 1."""
    return np.asarray(render(scene, SIDE), dtype=np.float32) / 255


def difference(first: Picture, second: Picture) -> float:
    """Return the root mean square of the difference, 0 to 1."""
    return float(np.sqrt(np.mean(np.square(first - second))))


def agreement(first: Picture, second: Picture) -> float:
    """Return the correlation of two pictures over all pixels, each channel centred; 0 if one of them is flat."""
    first = first - first.mean(axis=(0, 1))
    second = second - second.mean(axis=(0, 1))
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float((first * second).sum()) / norm if norm > 1e-3 else 0.0


def fit(scene: Scene, picture: Picture) -> tuple[Scene, Picture]:
    """Move a scene's things and horizon, and resize its things, until its drawing is closest to the picture.

    Gauss-Newton on the pixels. The derivatives are central differences, since an edge may have to go either way; a step
    that does not bring the drawing closer is halved once.

    Returns:
        The fitted scene and its drawing.
    """
    drawing = draw(scene)
    for grain in _GRAINS:
        target = _coarse(picture, grain)
        current = _coarse(drawing, grain)
        nudge = grain / 2 / SIDE
        changes = []
        for up, down in _nudged(scene, nudge):
            changes.append(_coarse(draw(up) - draw(down), grain).ravel())
        derivatives = np.stack(changes)
        derivatives /= 2 * nudge
        residual = (target - current).ravel()
        # The normal equations have a few unknowns only; lstsq cuts off the directions that hardly change the drawing.
        step = np.linalg.lstsq(derivatives @ derivatives.T, derivatives @ residual, rcond=_WEAK)[0]
        step = np.clip(step, -_LARGEST_MOVE, _LARGEST_MOVE)
        for attempted_step in (step, step / 2):
            moved = _moved(scene, attempted_step)
            attempt = draw(moved)
            if difference(_coarse(attempt, grain), target) < difference(current, target):
                scene = moved
                drawing = attempt
                break
    return scene, drawing


def opacity(picture: Picture, there: Picture, gone: Picture) -> float:
    """Return how much a picture shows of the difference between two drawings: 0 is `gone`, 1 is `there`.

    It is the least-squares weight of `there` in a blend of the two; 0.5 if both drawings are the same.
    """
    change = there - gone
    power = float(np.square(change).sum())
    return float(((picture - gone) * change).sum()) / power if power > 0 else 0.5


def _coarse(picture: Picture, grain: int) -> Float[np.ndarray, "side side 3"]:
    """Average blocks of `grain` × `grain` pixels."""
    side = SIDE // grain
    return picture.reshape(side, grain, side, grain, 3).mean(axis=(1, 3))


def _nudged(scene: Scene, distance: float) -> Iterator[tuple[Scene, Scene]]:
    """Yield the scene with each of its coordinates a little larger, and a little smaller."""
    for nudge in np.eye(1 + 2 * len(scene.things)) * distance:
        yield _moved(scene, nudge), _moved(scene, -nudge)


def _moved(scene: Scene, step: Float[np.ndarray, " coordinates"]) -> Scene:
    """Add a step to the coordinates of a scene: its horizon, then x and size of each thing."""
    horizon_change, *changes = step.tolist()
    things = []
    for thing, x_change, size_change in zip(scene.things, changes[::2], changes[1::2], strict=True):
        x = _clamp(thing.x + x_change, 0, 1)
        size = _clamp(thing.size + size_change, 0.2, 1)
        things.append(replace(thing, x=x, size=size))
    return replace(scene, things=tuple(things), horizon=_clamp(scene.horizon + horizon_change, 0.4, 0.8))


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
