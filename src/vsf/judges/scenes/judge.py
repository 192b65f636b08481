"""The judge of synthetic scenes: a network reads the scene, and a drawing of that is compared with the image."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool
from safetensors.torch import load_file

from vsf.judges.base import Question, Verdict
from vsf.judges.scenes.network import SIDE, Reader
from vsf.judges.scenes.predictions import ALTERNATIVES, Predictions, SlotPredictions, predictions, with_thing
from vsf.judges.scenes.render_fit import Picture, agreement, difference, draw, fit, opacity
from vsf.registry import Registry
from vsf.tiny.scenes import BACKGROUNDS, OBJECTS, PARTS, Scene, Thing

if TYPE_CHECKING:
    from PIL.Image import Image

WEIGHTS = Path(__file__).with_name("weights") / "reader.safetensors"
_OBJECTS = Registry("object", OBJECTS)
_PARTS = Registry("part", dict.fromkeys(PARTS))
_EXPLAINED = 0.35  # if the drawing correlates less with the image, the reading is wrong and the image unreadable
_VISIBLE = 0.15  # a thing less opaque than this is absent; a misshapen one may well be half off its drawing
# A part is present if the network's log-odds, clamped to ±_TRUST, plus _CLARITY × (opacity - _HALF) are positive.
# A smeared part lies some way off its drawing: even a clear one shows an opacity of some .4, an absent one up to .2.
_TRUST = 5.0
_CLARITY = 22.0
_HALF = 0.3
_UNAVOIDABLE = 0.015  # the difference that 95 % of clean renders stay below after the fit
_HALVING = 0.08  # each further difference of this size halves the quality


@dataclass(frozen=True)
class Reading:
    """The scene in an image, and how well its drawing explains the image (0 to 1); both None if it is unreadable."""

    scene: Scene | None
    quality: float | None


def look(images: Sequence[Image]) -> list[Reading]:
    """Read images of any size as one batch."""
    if not images:
        return []
    pictures = list(map(_picture, images))
    with torch.inference_mode():
        scores = _reader()(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2))
    readings = []
    for predicted, picture in zip(predictions(scores), pictures, strict=True):
        readings.append(_reading(predicted, picture))
    return readings


def judge(image: Image, question: Question) -> Verdict:
    """Answer a question about one image."""
    return answer(look([image])[0], question)


def answer(reading: Reading, question: Question) -> Verdict:
    """Answer a question from a reading.

    The part counts as present if the object that was asked for has it, or any thing if that object is absent.

    Raises:
        UnknownNameError: There is no such object, or no such part.
    """
    _OBJECTS[question.object]  # raises with a suggestion if the name is unknown
    _PARTS[question.part]
    scene = reading.scene
    if scene is None:
        return Verdict.unreadable(words(reading))
    matching = _bodies(scene, question.object)
    is_gone = not any(question.part in thing.parts for thing in matching or scene.things)
    checks = _checks(scene, question)
    return Verdict(bool(matching), is_gone, reading.quality, words(reading, question.part), checks=checks)


def part_pixels(reading: Reading, name: str, part: str) -> Bool[np.ndarray, "side side"]:
    """Return the pixels that one part of the things of this name covers; none where there is no such part.

    A margin of two pixels belongs to it, since a picture follows its drawing only roughly.
    """
    from scipy.ndimage import binary_dilation  # describing a picture has to work without scipy

    covered = np.zeros((SIDE, SIDE), dtype=bool)
    scene = reading.scene
    if scene is None:
        return covered
    drawing = draw(scene)
    for index, thing in enumerate(scene.things):
        if thing.object == name and part in thing.parts:
            without = draw(with_thing(scene, index, replace(thing, parts=thing.parts - {part})))
            covered |= (drawing != without).any(-1)
    return np.asarray(binary_dilation(covered, iterations=2))


def _checks(scene: Scene, question: Question) -> dict[str, bool]:
    """Check each further thing that the prompt asks for; what belongs to an object that is absent is not there."""
    matching = _bodies(scene, question.object)
    checks = {}
    if question.colour:
        checks["colour"] = any(thing.colour == question.colour for thing in matching)
    if question.place:
        checks["place"] = scene.background == question.place
    if question.parts:
        checks["parts"] = any(thing.parts.issuperset(question.parts) for thing in matching)
    if question.beside:
        objects_beside = _bodies(scene, question.beside)
        checks["second object"] = bool(objects_beside)
        checks["relation"] = any(first.x < second.x for first in matching for second in objects_beside)
    return checks


def _bodies(scene: Scene, name: str) -> list[Thing]:
    return [thing for thing in scene.things if thing.body and thing.object == name]


def describe(image: Image, asked: str = "") -> str:
    """Describe an image: "a red car on snow, windows, no wheels".

    Args:
        image: Of any size.
        asked: Any text, such as the negative prompt; the parts named in it are mentioned even if they are absent.
    """
    return words(look([image])[0], asked)


def words(reading: Reading, asked: str = "") -> str:
    """Write the description of `describe` from a reading."""
    scene = reading.scene
    if scene is None:
        return "nothing that can be read"
    background = BACKGROUNDS[scene.background].phrase
    mentioned = [word for word in re.findall(r"[a-z]+", asked.lower()) if word in PARTS]
    if not scene.things:
        return f"nothing {background}"
    if len(scene.things) == 1:
        (thing,) = scene.things
        return ", ".join([f"{_name(thing)} {background}", *_parts(thing, mentioned)])
    descriptions = []
    for thing in scene.things:
        parts = ", ".join(_parts(thing, mentioned))
        descriptions.append(f"{_name(thing)} ({parts})")
    return f"{' and '.join(descriptions)} {background}"


def _name(thing: Thing) -> str:
    if not thing.body:
        return f"only {' and '.join(sorted(thing.parts))}"
    return f"{'an' if thing.colour[0] in 'aeiou' else 'a'} {thing.colour} {thing.object}"


def _parts(thing: Thing, mentioned: Sequence[str]) -> list[str]:
    """List the parts of a thing, then those it lacks of its essential parts and of those mentioned."""
    if not thing.body:
        return []
    expected = dict.fromkeys([*OBJECTS[thing.object].essential, *mentioned])
    missing = [f"no {part}" for part in expected if part not in thing.parts]
    return [*sorted(thing.parts), *missing]


@cache
def _reader() -> Reader:
    reader = Reader()
    reader.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return reader.eval()


def _picture(image: Image) -> Picture:
    """Scale an image to the network's size, values from 0 to 1."""
    from PIL import Image as Images

    image = image.convert("RGB")
    if image.size != (SIDE, SIDE):
        image = image.resize((SIDE, SIDE), Images.Resampling.BOX if image.width > SIDE else Images.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float32) / 255


def _reading(predicted: Predictions, picture: Picture) -> Reading:
    """Find the scene whose drawing explains a picture best, among those that the network thinks possible."""
    scene, drawing = fit(predicted.scene(), picture)
    for alternatives in ALTERNATIVES:  # one property at a time, since all combinations would be too many to draw
        best = scene
        for alternative in alternatives(predicted, scene):
            if alternative == scene:
                continue
            moved, attempt = fit(alternative, picture)
            if difference(attempt, picture) < difference(drawing, picture):
                best = moved
                drawing = attempt
        scene = best
    # Parts come after the fit: their opacity can be measured only where the drawing lies on the picture.
    for index, _ in enumerate(scene.things):
        scene, drawing = _with_seen_parts(scene, index, predicted.slots[index], picture)
    scene, drawing = _without_the_unseen(scene, picture, drawing)
    if agreement(drawing, picture) < _EXPLAINED:
        return Reading(None, None)
    excess = max(0.0, difference(drawing, picture) - _UNAVOIDABLE)
    return Reading(scene, math.pow(0.5, excess / _HALVING))


def _with_seen_parts(scene: Scene, index: int, slot: SlotPredictions, picture: Picture) -> tuple[Scene, Picture]:
    """Decide on each part of a thing by the network's log-odds and by how much of it the picture shows."""
    thing = scene.things[index]
    drawing = draw(scene)
    if not thing.body:
        return scene, drawing
    for part in OBJECTS[thing.object].parts:
        toggled = with_thing(scene, index, replace(thing, parts=thing.parts ^ {part}))
        toggled_drawing = draw(toggled)
        if part in thing.parts:
            part_opacity = opacity(picture, there=drawing, gone=toggled_drawing)
        else:
            part_opacity = opacity(picture, there=toggled_drawing, gone=drawing)
        log_odds = max(-_TRUST, min(_TRUST, slot.parts[part]))
        is_present = log_odds + _CLARITY * (part_opacity - _HALF) > 0
        if is_present != (part in thing.parts):
            scene = toggled
            drawing = toggled_drawing
            thing = scene.things[index]
    return scene, drawing


def _without_the_unseen(scene: Scene, picture: Picture, drawing: Picture) -> tuple[Scene, Picture]:
    """Remove the things of which the picture shows hardly more than their background."""
    for thing in scene.things:
        remaining = tuple(candidate for candidate in scene.things if candidate is not thing)
        fewer = replace(scene, things=remaining)
        gone = draw(fewer)
        if opacity(picture, drawing, gone) < _VISIBLE:
            scene = fewer
            drawing = gone
    return scene, drawing
