"""The judge of pictures of the world: a network reads the scene, and a drawing of that is compared with the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file

from vsf.judges.scenes.quality import draw, quality
from vsf.judges.scenes.render_fit import agreement, difference, opacity
from vsf.judges.world.detections import ALTERNATIVES, Detections, detections, relations
from vsf.judges.world.fit import FINE, Picture, blocks, fit
from vsf.judges.world.network import SIDE, Reader
from vsf.tiny.world.objects import OBJECTS
from vsf.tiny.world.places import PLACES
from vsf.tiny.world.scenes import Scene

if TYPE_CHECKING:
    from PIL.Image import Image

# If the drawing correlates less with the picture, the reading is wrong and the picture unreadable. Pictures that are
# upside down stay below (the highest of 20 was .55), heavily blurred and smeared ones above (the lowest was .65).
_EXPLAINED = 0.6
_VISIBLE = 0.25  # a thing less opaque than this is absent
# A part is present if the network's log-odds, clamped to ±_TRUST, plus _CLARITY × (opacity - _HALF) are positive.
_TRUST = 5.0
_CLARITY = 22.0
_HALF = 0.4
_ROUNDS = 2


@dataclass(frozen=True)
class Reading:
    """The scene in a picture, and how well it is drawn (0 to 1); both None if the picture is unreadable."""

    scene: Scene | None
    quality: float | None


def load(weights: Path) -> Reader:
    """Return the trained network of a file of weights."""
    reader = Reader()
    reader.load_state_dict({name: value.float() for name, value in load_file(weights).items()})
    return reader.eval()


def look(images: Sequence[Image], reader: Reader) -> list[Reading]:
    """Read images of any size as one batch."""
    if not images:
        return []
    pictures = [_picture(image) for image in images]
    with torch.inference_mode():
        scores = reader(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2))
    readings = []
    for seen, picture in zip(detections(scores), pictures, strict=True):
        readings.append(_reading(seen, picture))
    return readings


def _picture(image: Image) -> Picture:
    """Scale an image to the network's size, values from 0 to 1."""
    from PIL import Image as Images

    image = image.convert("RGB")
    if image.size != (SIDE, SIDE):
        image = image.resize((SIDE, SIDE), Images.Resampling.BOX if image.width > SIDE else Images.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float32) / 255


def _reading(seen: Detections, picture: Picture) -> Reading:
    """Find the scene whose drawing explains a picture best, among those that the network thinks possible."""
    # At half the side this takes a quarter of the time.
    scene = fit(seen.scene(), blocks(picture, 2))
    error = difference(draw(scene), picture)
    for alternatives in ALTERNATIVES:  # one property at a time, since all combinations would be too many to draw
        best = scene
        for alternative in alternatives(seen, scene):
            alternative_error = difference(draw(alternative), picture)
            if alternative_error < error:
                best = alternative
                error = alternative_error
        scene = best
    scene = fit(scene, picture, FINE)
    # How much is seen of a part can be measured only where the drawing lies on the picture, and the drawing comes to
    # lie there only with the right parts.
    for _ in range(_ROUNDS):
        corrected = _with_seen_place_parts(scene, seen, picture)
        for index in range(len(scene.things)):
            corrected = _with_seen_parts(corrected, index, seen, picture)
        if corrected == scene:
            break
        scene = fit(corrected, picture, FINE)
    scene = _without_the_unseen(scene, picture)
    if agreement(draw(scene), picture) < _EXPLAINED:
        return Reading(None, None)
    return Reading(scene, quality(picture, scene))


def _with_seen_parts(scene: Scene, index: int, seen: Detections, picture: Picture) -> Scene:
    """Decide on each part of a thing by the network's log-odds and by how much of it the picture shows."""
    if not scene.things[index].body:
        return scene
    for part in OBJECTS[scene.things[index].object].parts:
        thing = scene.things[index]
        with_part = scene.with_thing(index, replace(thing, parts=thing.parts | {part}))
        gone = scene.with_thing(index, replace(thing, parts=thing.parts - {part}))
        scene = with_part if _is_seen(picture, with_part, gone, seen.things[index].parts[part]) else gone
    return scene


def _with_seen_place_parts(scene: Scene, seen: Detections, picture: Picture) -> Scene:
    """Decide on each part of the place in the same way."""
    for part in PLACES[scene.place].parts:
        with_part = replace(scene, place_parts=scene.place_parts | {part})
        gone = replace(scene, place_parts=scene.place_parts - {part})
        scene = with_part if _is_seen(picture, with_part, gone, seen.place_parts[part]) else gone
    return scene


def _is_seen(picture: Picture, there: Scene, gone: Scene, log_odds: float) -> bool:
    shown = opacity(picture, draw(there), draw(gone))
    return max(-_TRUST, min(_TRUST, log_odds)) + _CLARITY * (shown - _HALF) > 0


def _without_the_unseen(scene: Scene, picture: Picture) -> Scene:
    """Remove the things of which the picture shows hardly more than what is behind them."""
    for thing in scene.things:
        remaining = tuple(candidate for candidate in scene.things if candidate is not thing)
        fewer = replace(scene, things=remaining, relations=relations(remaining))
        if opacity(picture, draw(scene), draw(fewer)) < _VISIBLE:
            scene = fewer
    return scene
