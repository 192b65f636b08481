"""What the reader believes of one image: the likeliest scene, and what else it may be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from vsf.judges.scenes.network import COUNTS, SLOTS, Scores
from vsf.tiny.scenes import BACKGROUNDS, COLOURS, OBJECTS, PARTS, STYLES, Scene, Thing

_DOUBT, _RIVALS = 0.03, 2  # what is worth drawing: the likeliest two that have at least this probability
Chances = Mapping[str, float]


@dataclass(frozen=True)
class Slot:
    """Beliefs about the only or left thing, or about the right one; for parts the log-odds that they are there."""

    objects: Chances
    colours: Chances
    parts: Mapping[str, float]
    x: float
    size: float

    def thing(self) -> Thing:
        """The likeliest thing with a body."""
        parts = frozenset(part for part, odds in self.parts.items() if odds > 0)
        return Thing(_likeliest(self.objects), parts, _likeliest(self.colours), self.x, self.size)

    def loose(self, part: str) -> Thing:
        """A part on its own, of the likeliest object that has it."""
        owner = max((name for name, kind in OBJECTS.items() if part in kind.parts), key=self.objects.__getitem__)
        return Thing(owner, frozenset({part}), _likeliest(self.colours), self.x, self.size, body=False)


@dataclass(frozen=True)
class Beliefs:
    """Probabilities by name for everything that makes a scene."""

    counts: Chances
    backgrounds: Chances
    styles: Chances
    horizon: float
    slots: tuple[Slot, ...]

    def scene(self) -> Scene:
        """The likeliest scene."""
        things = self.things(_likeliest(self.counts))
        return Scene(things, _likeliest(self.backgrounds), _likeliest(self.styles), self.horizon)

    def things(self, count: str) -> tuple[Thing, ...]:
        """The likeliest things of a scene that shows this many."""
        if count == "loose":
            return (self.slots[0].loose(_likeliest(self.slots[0].parts)),)
        return tuple(slot.thing() for slot in self.slots[: COUNTS.index(count)])


def beliefs(scores: Scores) -> Iterator[Beliefs]:
    """The beliefs about each image of a batch."""
    for row in range(len(scores.counts)):
        yield Beliefs(
            counts=_chances(COUNTS, scores.counts[row]),
            backgrounds=_chances(BACKGROUNDS, scores.backgrounds[row]),
            styles=_chances(STYLES, scores.styles[row]),
            horizon=float(scores.horizons[row]),
            slots=tuple(_slot(scores, row, slot) for slot in range(SLOTS)),
        )


def _other_counts(mind: Beliefs, scene: Scene) -> Iterator[Scene]:
    for count in _possible(mind.counts):
        if count != count_of(scene):
            yield replace(scene, things=mind.things(count))


def _other_backgrounds(mind: Beliefs, scene: Scene) -> Iterator[Scene]:
    for background in _possible(mind.backgrounds):
        yield replace(scene, background=background)


def _other_styles(mind: Beliefs, scene: Scene) -> Iterator[Scene]:
    for style in _possible(mind.styles):
        yield replace(scene, style=style)


def _other_objects(mind: Beliefs, scene: Scene) -> Iterator[Scene]:
    for index, thing in enumerate(scene.things):
        for name in _possible(mind.slots[index].objects):
            if thing.body or thing.parts <= set(OBJECTS[name].parts):
                yield with_thing(scene, index, replace(thing, object=name))


def _other_colours(mind: Beliefs, scene: Scene) -> Iterator[Scene]:
    for index, thing in enumerate(scene.things):
        for colour in _possible(mind.slots[index].colours) if thing.body else ():
            yield with_thing(scene, index, replace(thing, colour=colour))


def _other_loose_parts(mind: Beliefs, scene: Scene) -> Iterator[Scene]:
    if count_of(scene) == "loose":
        for part, odds in mind.slots[0].parts.items():
            if odds > 0:
                loose = mind.slots[0].loose(part)
                yield with_thing(scene, 0, replace(loose, x=scene.things[0].x, size=scene.things[0].size))


ALTERNATIVES: Sequence[Callable[[Beliefs, Scene], Iterator[Scene]]] = (
    _other_counts,
    _other_backgrounds,
    _other_styles,
    _other_objects,
    _other_colours,
    _other_loose_parts,
)
"""For each thing that one can be wrong about: what a scene may be instead, the scene itself often among it."""


def count_of(scene: Scene) -> str:
    """Which of the reader's COUNTS describes the scene."""
    if scene.things and not scene.things[0].body:
        return "loose"
    return COUNTS[len(scene.things)]


def with_thing(scene: Scene, index: int, thing: Thing) -> Scene:
    """The scene with another thing at this place."""
    return replace(scene, things=(*scene.things[:index], thing, *scene.things[index + 1 :]))


def _slot(scores: Scores, row: int, slot: int) -> Slot:
    x, size = scores.places[row, slot].tolist()
    return Slot(
        objects=_chances(tuple(OBJECTS), scores.objects[row, slot]),
        colours=_chances(tuple(COLOURS), scores.colours[row, slot]),
        parts=dict(zip(PARTS, scores.parts[row, slot].tolist(), strict=True)),
        x=x,
        size=size,
    )


def _chances(names: Sequence[str] | Mapping[str, object], logits: Tensor) -> Chances:
    return dict(zip(names, logits.softmax(-1).tolist(), strict=True))


def _possible(chances: Chances) -> list[str]:
    ranked = sorted(chances, key=chances.__getitem__, reverse=True)
    return [name for name in ranked[:_RIVALS] if chances[name] >= _DOUBT]


def _likeliest(chances: Mapping[str, float]) -> str:
    return max(chances, key=chances.__getitem__)
