"""Analysis by synthesis: move a scene's things until its drawing lies on the picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from vsf.judges.scenes.quality import draw
from vsf.judges.scenes.render_fit import difference
from vsf.tiny.world.scenes import Scene

Picture = Float[np.ndarray, "side side 3"]

COARSE_TO_FINE = (8, 4, 2, 1)
"""Sides of the blocks of pixels that are averaged, one after the other: coarse first, so that a far start converges."""
FINE = (2, 1)
"""The same for a scene that is nearly where it should be."""
_LARGEST_MOVE = 2.5  # pixels; beyond a few the linear model of the drawing is not valid
_WEAK = 1e-3  # directions that change the drawing less than this, relative to the strongest, are left alone
_HORIZON_REACH = 0.025  # the network is never further off; parts of the place not yet known would pull it away
_COORDINATES = 3  # of each thing: x, size and lift


def fit(scene: Scene, picture: Picture, grains: Sequence[int] = COARSE_TO_FINE) -> Scene:
    """Move a scene's things and horizon, and resize its things, until its drawing is closest to the picture.

    Gauss-Newton on the pixels. The derivatives are central differences, since an edge may have to go either way; a step
    that does not bring the drawing closer is halved once.

    Args:
        scene: Things, place and style as they are in the picture, roughly where they are.
        picture: Values from 0 to 1; square.
        grains: Sides of the blocks of pixels that are averaged, one after the other.
    """
    side = len(picture)
    drawing = draw(scene, side)
    lowest = scene.horizon - _HORIZON_REACH
    highest = scene.horizon + _HORIZON_REACH
    for grain in grains:
        target = blocks(picture, grain)
        current = blocks(drawing, grain)
        nudge = grain / 2 / side
        changes = []
        for up, down in _nudged(scene, nudge):
            changes.append(blocks(draw(up, side) - draw(down, side), grain).ravel())
        derivatives = np.stack(changes)
        derivatives /= 2 * nudge
        residual = (target - current).ravel()
        # The normal equations have a few unknowns only; lstsq cuts off the directions that hardly change the drawing.
        step = np.linalg.lstsq(derivatives @ derivatives.T, derivatives @ residual, rcond=_WEAK)[0]
        step = np.clip(step, -_LARGEST_MOVE / side, _LARGEST_MOVE / side)
        for attempted_step in (step, step / 2):
            moved = _moved(scene, attempted_step)
            moved = replace(moved, horizon=_clamp(moved.horizon, lowest, highest))
            attempt = draw(moved, side)
            if difference(blocks(attempt, grain), target) < difference(current, target):
                scene = moved
                drawing = attempt
                break
    return scene


def blocks(picture: Picture, grain: int) -> Picture:
    """Average blocks of `grain` × `grain` pixels."""
    side = len(picture) // grain
    return picture.reshape(side, grain, side, grain, 3).mean(axis=(1, 3))


def _nudged(scene: Scene, distance: float) -> Iterator[tuple[Scene, Scene]]:
    """Yield the scene with each of its coordinates a little larger, and a little smaller."""
    for nudge in np.eye(1 + _COORDINATES * len(scene.things)) * distance:
        yield _moved(scene, nudge), _moved(scene, -nudge)


def _moved(scene: Scene, step: Float[np.ndarray, " coordinates"]) -> Scene:
    """Add a step to the coordinates of a scene: its horizon, then x, size and lift of each thing."""
    horizon_change, *changes = step.tolist()
    things = []
    for index, thing in enumerate(scene.things):
        x, size, lift = changes[_COORDINATES * index : _COORDINATES * (index + 1)]
        moved = replace(thing, x=_clamp(thing.x + x, 0, 1), size=_clamp(thing.size + size, 0.15, 1))
        things.append(replace(moved, lift=_clamp(thing.lift + lift, -0.15, 0.7)))
    return replace(scene, things=tuple(things), horizon=scene.horizon + horizon_change)


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
