"""The judge of the little world: it reads the scene, draws what it read, and compares."""

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
from safetensors.torch import load_file

from vsf.judges.base import Question, Verdict
from vsf.judges.scenes.network import SIDE, Reader
from vsf.judges.scenes.predictions import ALTERNATIVES, Beliefs, Slot, beliefs, with_thing
from vsf.judges.scenes.render_fit import Picture, agreement, difference, draw, fit, opacity
from vsf.registry import Registry
from vsf.tiny.scenes import BACKGROUNDS, OBJECTS, PARTS, Scene, Thing

if TYPE_CHECKING:
    from PIL.Image import Image

WEIGHTS = Path(__file__).with_name("weights") / "reader.safetensors"
_OBJECTS = Registry("object", OBJECTS)
_PARTS = Registry("part", dict.fromkeys(PARTS))
_EXPLAINED = 0.35  # a drawing that correlates less with the picture has not read it
_VISIBLE = 0.15  # a thing less opaque than this is not there; a misshapen one may well be half off its drawing
# A part is there when the reader's log-odds, up to _TRUST, and _CLARITY × (opacity - _HALF) say so together. A smeared
# part lies some way off its drawing, so that even a clear one shows only some .4 of it, an absent one up to .2.
_TRUST, _CLARITY, _HALF = 5.0, 22.0, 0.3
_UNAVOIDABLE = 0.015  # the difference that 95 % of clean renders stay below after the fit
_HALVING = 0.08  # each further difference of this size halves the quality


@dataclass(frozen=True)
class Reading:
    """The scene that an image shows and how well its drawing explains the image (0 to 1); None when unreadable."""

    scene: Scene | None
    quality: float | None


def look(images: Sequence[Image]) -> list[Reading]:
    """Read a batch of images of any size."""
    if not images:
        return []
    pictures = [_picture(image) for image in images]
    with torch.inference_mode():
        scores = _reader()(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2))
    return [_reading(mind, picture) for mind, picture in zip(beliefs(scores), pictures, strict=True)]


def judge(image: Image, question: Question) -> Verdict:
    """Answer a question about one image."""
    return answer(look([image])[0], question)


def answer(reading: Reading, question: Question) -> Verdict:
    """Answer a question from a reading.

    The part counts as there when the asked object has it, and anywhere in the image when the object is not there.

    Raises:
        UnknownNameError: the little world has no such object or no such part.
    """
    _OBJECTS[question.object], _PARTS[question.part]
    if reading.scene is None:
        return Verdict(None, None, None, words(reading))
    asked = [thing for thing in reading.scene.things if thing.body and thing.object == question.object]
    gone = not any(question.part in thing.parts for thing in asked or reading.scene.things)
    return Verdict(bool(asked), gone, reading.quality, words(reading, question.part))


def describe(image: Image, asked: str = "") -> str:
    """Say what an image shows: "a red car on snow, windows, no wheels".

    `asked` is any text, such as the negative prompt; the part words in it are mentioned also when they are not there.
    """
    return words(look([image])[0], asked)


def words(reading: Reading, asked: str = "") -> str:
    """What `describe` says, from a reading."""
    scene = reading.scene
    if scene is None:
        return "nothing that can be read"
    place = BACKGROUNDS[scene.background].phrase
    mentioned = [word for word in re.findall(r"[a-z]+", asked.lower()) if word in PARTS]
    if not scene.things:
        return f"nothing {place}"
    if len(scene.things) == 1:
        (thing,) = scene.things
        return ", ".join([f"{_name(thing)} {place}", *_parts(thing, mentioned)])
    told = [" ".join([_name(thing), f"({', '.join(_parts(thing, mentioned))})"]) for thing in scene.things]
    return f"{' and '.join(told)} {place}"


def _name(thing: Thing) -> str:
    if not thing.body:
        return f"only {' and '.join(sorted(thing.parts))}"
    return f"{'an' if thing.colour[0] in 'aeiou' else 'a'} {thing.colour} {thing.object}"


def _parts(thing: Thing, asked: Sequence[str]) -> list[str]:
    """The parts a thing has, then those that are missed: the essential ones and those asked for."""
    if not thing.body:
        return []
    kind = OBJECTS[thing.object]
    missed = [part for part in dict.fromkeys([*kind.essential, *asked]) if part not in thing.parts]
    return [*sorted(thing.parts), *(f"no {part}" for part in missed)]


@cache
def _reader() -> Reader:
    reader = Reader()
    reader.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return reader.eval()


def _picture(image: Image) -> Picture:
    from PIL import Image as Images

    image = image.convert("RGB")
    if image.size != (SIDE, SIDE):
        image = image.resize((SIDE, SIDE), Images.Resampling.BOX if image.width > SIDE else Images.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float32) / 255


def _reading(mind: Beliefs, picture: Picture) -> Reading:
    """The scene whose drawing explains the picture best among those that the reader thinks possible."""
    scene, drawing = fit(mind.scene(), picture)
    for alternatives in ALTERNATIVES:
        best = scene
        for other in alternatives(mind, scene):
            if other != scene:
                moved, attempt = fit(other, picture)
                if difference(attempt, picture) < difference(drawing, picture):
                    best, drawing = moved, attempt
        scene = best
    for index, _ in enumerate(scene.things):
        scene, drawing = _with_seen_parts(scene, index, mind.slots[index], picture)
    scene, drawing = _without_the_unseen(scene, picture, drawing)
    if agreement(drawing, picture) < _EXPLAINED:
        return Reading(None, None)
    excess = max(0.0, difference(drawing, picture) - _UNAVOIDABLE)
    return Reading(scene, math.pow(0.5, excess / _HALVING))


def _with_seen_parts(scene: Scene, index: int, slot: Slot, picture: Picture) -> tuple[Scene, Picture]:
    """Decide on each part of a thing from the reader's odds and from how much of it the picture shows."""
    thing, drawing = scene.things[index], draw(scene)
    for part in OBJECTS[thing.object].parts if thing.body else ():
        toggled = with_thing(scene, index, replace(thing, parts=thing.parts ^ {part}))
        other = draw(toggled)
        there, gone = (drawing, other) if part in thing.parts else (other, drawing)
        odds = max(-_TRUST, min(_TRUST, slot.parts[part]))
        seen = odds + _CLARITY * (opacity(picture, there, gone) - _HALF) > 0
        if seen != (part in thing.parts):
            scene, drawing = toggled, other
            thing = scene.things[index]
    return scene, drawing


def _without_the_unseen(scene: Scene, picture: Picture, drawing: Picture) -> tuple[Scene, Picture]:
    """Leave out the things of which the picture shows hardly more than what would be behind them."""
    for thing in scene.things:
        fewer = replace(scene, things=tuple(other for other in scene.things if other is not thing))
        gone = draw(fewer)
        if opacity(picture, drawing, gone) < _VISIBLE:
            scene, drawing = fewer, gone
    return scene, drawing
