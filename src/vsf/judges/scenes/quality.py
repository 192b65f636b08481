"""Score how well a picture of a known scene is drawn, independent of which parts are present.

A picture is compared with the drawing of its scene only at pixels that no removable part can change. A part that is
gone leaves less that can be drawn wrong; were its pixels compared, taking parts away would raise the score.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from vsf.tiny.world.objects import OBJECTS
from vsf.tiny.world.places import PLACES
from vsf.tiny.world.renderer import SIZE, render
from vsf.tiny.world.scenes import Scene

Picture = Float[np.ndarray, "height width 3"]
Mask = Bool[np.ndarray, "height width"]

MARGIN = 0.012
"""Fraction of the picture around a part's edge that is left out as well, because damage may carry the part there."""
HALVING = 0.08
"""Each root-mean-square difference of this size, on a scale of 0 to 1, halves the quality."""
_CRISP_REACH = 1  # an edge this many pixels off its place is misplaced, which the difference sees, but not soft


def quality(picture: Picture, scene: Scene) -> float:
    """Score a picture of a scene from 0 to 1: the closer to its drawing, and the crisper its edges, the higher.

    Args:
        picture: Values from 0 to 1; square.
        scene: The scene in the picture, with everything in the place that it has there.

    Returns:
        2 to the power of minus the difference in units of `HALVING`, times the share of the drawing's edges that the
        picture has; the same whichever parts are there, except for damage carried into their neighbourhood.
    """
    drawing = draw(scene, len(picture))
    fixed = fixed_pixels(scene, len(picture))
    difference = float(np.sqrt(np.square(picture - drawing)[fixed].mean()))
    return float(2 ** (-difference / HALVING)) * crispness(picture, drawing, fixed)


def crispness(picture: Picture, drawing: Picture, where: Mask) -> float:
    """Return the share of the drawing's steps between neighbouring pixels that the picture has, from 0 to 1.

    Steps count by their size, so soft shadows and gradients hardly do. Each is looked for up to a pixel away, because
    a crisp edge a little off its place is crisp.
    """
    drawn_steps = _steps(drawing)
    nearby = ndimage.maximum_filter(_steps(picture), size=2 * _CRISP_REACH + 1)
    weights = np.square(drawn_steps) * where
    total = float(weights.sum())
    if total == 0:
        return 1.0
    share = np.minimum(nearby / np.maximum(drawn_steps, 1e-6), 1.0)
    return float((weights * share).sum()) / total


def fixed_pixels(scene: Scene, size: int = SIZE) -> Mask:
    """Return where no removable part of things or place could change the drawing, however many are there or gone."""
    things = []
    for thing in scene.things:
        # A loose part is all that there is of its thing, so it is not removable.
        things.append(replace(thing, parts=frozenset()) if thing.body else thing)
    bare = replace(scene, things=tuple(things), place_parts=frozenset())
    scenes_with_part = []
    for part in PLACES[scene.place].parts:
        scenes_with_part.append(replace(bare, place_parts=frozenset({part})))
    for index, thing in enumerate(bare.things):
        if thing.body:
            for part in OBJECTS[thing.object].parts:
                scenes_with_part.append(bare.with_thing(index, replace(thing, parts=frozenset({part}))))
    bare_drawing = draw(bare, size)
    touched = np.zeros(bare_drawing.shape[:2], dtype=bool)
    for scene_with_part in scenes_with_part:
        touched |= (draw(scene_with_part, size) != bare_drawing).any(-1)
    return ~ndimage.binary_dilation(touched, iterations=round(MARGIN * size))


def draw(scene: Scene, size: int = SIZE) -> Picture:
    """Return the scene as the renderer draws it, values from 0 to 1."""
    return np.asarray(render(scene, size), dtype=np.float32) / 255


def _steps(image: Picture) -> Float[np.ndarray, "height width"]:
    """Return the larger of the steps to the right and down, over all channels."""
    right = np.abs(np.diff(image, axis=1, append=image[:, -1:])).max(-1)
    down = np.abs(np.diff(image, axis=0, append=image[-1:])).max(-1)
    return np.maximum(right, down)
