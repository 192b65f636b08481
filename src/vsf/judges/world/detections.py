"""From the network's scores to the likeliest scene, and to the alternatives worth a look."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn import functional as F

from vsf.judges.scenes.predictions import Probabilities, likeliest, possible, probabilities
from vsf.judges.world.network import CELLS, Scores
from vsf.tiny.world.colours import COLOURS
from vsf.tiny.world.objects import OBJECTS, PARTS
from vsf.tiny.world.places import PLACE_PARTS, PLACES
from vsf.tiny.world.renderer import FOREGROUND
from vsf.tiny.world.scenes import Relation, Scene, Thing
from vsf.tiny.world.styles import STYLES

MOST_THINGS = 3
_LEAST_LOGIT = 0.0
"""A cell of a lower logit is no thing's middle."""
_MIDDLE = 0.4
"""How far a thing's middle is above its foot, as a fraction of its size."""
_ON = 0.16
"""A thing whose foot is lifted further, in fractions of the picture, stands on another."""
_BESIDE = 0.12
"""Things whose middles are closer than this, sideways, are on top of one another."""


def middle(thing: Thing, horizon: float) -> tuple[float, float]:
    """Return x and y of a thing's middle, in fractions of the picture."""
    return thing.x, horizon + FOREGROUND - thing.lift - _MIDDLE * thing.size


@dataclass(frozen=True)
class Detection:
    """One thing that the network sees.

    Attributes:
        objects: Probability of each object.
        colours: Probability of each colour.
        parts: Log-odds that each part is present.
        is_object: Log-odds that it is an object, and not a part alone.
        x: Its middle, from the left, in fractions of the picture.
        y: Its middle, from the top, in fractions of the picture.
        size: Its size, in fractions of the picture.
    """

    objects: Probabilities
    colours: Probabilities
    parts: Mapping[str, float]
    is_object: float
    x: float
    y: float
    size: float

    def thing(self, horizon: float) -> Thing:
        """Return the likeliest thing."""
        lift = horizon + FOREGROUND - _MIDDLE * self.size - self.y
        name = likeliest(self.objects)
        if self.is_object > 0:
            parts = frozenset(part for part in OBJECTS[name].parts if self.parts[part] > 0)
            return Thing(name, parts, likeliest(self.colours), self.x, self.size, lift)
        # The part counts, not its owner, which is one that can have it.
        part = likeliest(self.parts)
        owners = [owner for owner, kind in OBJECTS.items() if part in kind.parts]
        owner = max(owners, key=self.objects.__getitem__)
        return Thing(owner, frozenset({part}), likeliest(self.colours), self.x, self.size, lift, body=False)


@dataclass(frozen=True)
class Detections:
    """All that the network sees in one picture."""

    things: tuple[Detection, ...]
    places: Probabilities
    place_parts: Mapping[str, float]
    styles: Probabilities
    horizon: float

    def scene(self) -> Scene:
        """Return the likeliest scene; its things are in the order of the detections."""
        name = likeliest(self.places)
        place_parts = frozenset(part for part in PLACES[name].parts if self.place_parts[part] > 0)
        things = tuple(detection.thing(self.horizon) for detection in self.things)
        return Scene(things, name, place_parts, relations(things), likeliest(self.styles), self.horizon)


def detections(scores: Scores) -> Iterator[Detections]:
    """Yield what is in each picture of a batch; things from the farthest to the nearest, as they are drawn."""
    for row in range(len(scores.places)):
        horizon = float(scores.horizon[row])
        detected = [_detection(scores, row, cell) for cell in _middles(scores.centre[row, 0])]
        yield Detections(
            things=tuple(sorted(detected, key=lambda detection: _depth(detection.thing(horizon)))),
            places=probabilities(PLACES, scores.places[row]),
            place_parts=dict(zip(PLACE_PARTS, scores.place_parts[row].tolist(), strict=True)),
            styles=probabilities(STYLES, scores.styles[row]),
            horizon=horizon,
        )


def relations(things: Sequence[Thing]) -> tuple[Relation, ...]:
    """Return which of the things stand on another, as far as their places tell."""
    stacked = []
    for index, thing in enumerate(things):
        if thing.lift <= _ON:
            continue
        for below, carrier in enumerate(things):
            if carrier.lift < thing.lift and abs(carrier.x - thing.x) < _BESIDE:
                stacked.append(Relation(index, "on", below))
    return tuple(stacked)


def _other_objects(seen: Detections, scene: Scene) -> Iterator[Scene]:
    for index, thing in enumerate(scene.things):
        for name in possible(seen.things[index].objects):
            if thing.body:
                parts = frozenset(part for part in OBJECTS[name].parts if seen.things[index].parts[part] > 0)
                yield scene.with_thing(index, replace(thing, object=name, parts=parts))


def _other_colours(seen: Detections, scene: Scene) -> Iterator[Scene]:
    for index, thing in enumerate(scene.things):
        for colour in possible(seen.things[index].colours):
            yield scene.with_thing(index, replace(thing, colour=colour))


def _other_places(seen: Detections, scene: Scene) -> Iterator[Scene]:
    for name in possible(seen.places):
        parts = frozenset(part for part in PLACES[name].parts if seen.place_parts[part] > 0)
        yield replace(scene, place=name, place_parts=parts)


def _other_styles(seen: Detections, scene: Scene) -> Iterator[Scene]:
    for style in possible(seen.styles):
        yield replace(scene, style=style)


ALTERNATIVES: Sequence[Callable[[Detections, Scene], Iterator[Scene]]] = (
    _other_styles,
    _other_places,
    _other_objects,
    _other_colours,
)
"""For each property that the network may get wrong: the possible scenes, often including the scene itself."""


def _middles(centre: Tensor) -> list[tuple[int, int]]:
    """Return the cells that are middles of things, those of the highest logits first."""
    highest_nearby = F.max_pool2d(centre[None], 3, stride=1, padding=1)[0]
    is_middle = (centre == highest_nearby) & (centre > _LEAST_LOGIT)
    cells = [divmod(int(cell), CELLS) for cell in is_middle.flatten().nonzero()[:, 0]]
    cells.sort(key=lambda cell: -float(centre[cell]))
    return cells[:MOST_THINGS]


def _detection(scores: Scores, row: int, cell: tuple[int, int]) -> Detection:
    x, y, size = scores.boxes[row, :, *cell].tolist()
    return Detection(
        objects=probabilities(OBJECTS, scores.objects[row, :, *cell]),
        colours=probabilities(COLOURS, scores.colours[row, :, *cell]),
        parts=dict(zip(PARTS, scores.parts[row, :, *cell].tolist(), strict=True)),
        is_object=float(scores.is_object[row, 0, *cell]),
        x=x,
        y=y,
        size=size,
    )


def _depth(thing: Thing) -> tuple[bool, float]:
    """Return a key that sorts things as they are drawn: the farther, the higher; what stands on another at last."""
    return thing.lift > _ON, -thing.lift
