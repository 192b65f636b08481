"""The network's predictions for one image: the likeliest scene, and the alternatives worth a look."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from vsf.judges.scenes.network import COUNTS, SLOTS, Scores
from vsf.tiny.scenes import BACKGROUNDS, COLOURS, OBJECTS, PARTS, STYLES, Scene, Thing

# An alternative is drawn and compared with the image only if it is among the likeliest two and has this probability.
_RIVALS = 2
_LEAST_PROBABILITY = 0.03
Probabilities = Mapping[str, float]


@dataclass(frozen=True)
class SlotPredictions:
    """Predictions about the only or left thing, or about the right one.

    Attributes:
        objects: Probability of each object.
        colours: Probability of each colour.
        parts: Log-odds that each part is present.
        x: Horizontal position, as a fraction of the image.
        size: Size, as a fraction of the image.
    """

    objects: Probabilities
    colours: Probabilities
    parts: Mapping[str, float]
    x: float
    size: float

    def thing(self) -> Thing:
        """Return the likeliest thing with a body."""
        parts = frozenset(part for part, log_odds in self.parts.items() if log_odds > 0)
        return Thing(likeliest(self.objects), parts, likeliest(self.colours), self.x, self.size)

    def loose(self, part: str) -> Thing:
        """Return a part on its own, of the likeliest object that can have it."""
        owners = [name for name, kind in OBJECTS.items() if part in kind.parts]
        owner = max(owners, key=self.objects.__getitem__)
        return Thing(owner, frozenset({part}), likeliest(self.colours), self.x, self.size, body=False)


@dataclass(frozen=True)
class Predictions:
    """Probabilities, by name, for everything that makes a scene."""

    counts: Probabilities
    backgrounds: Probabilities
    styles: Probabilities
    horizon: float
    slots: tuple[SlotPredictions, ...]

    def scene(self) -> Scene:
        """Return the likeliest scene."""
        things = self.things(likeliest(self.counts))
        return Scene(things, likeliest(self.backgrounds), likeliest(self.styles), self.horizon)

    def things(self, count: str) -> tuple[Thing, ...]:
        """Return the likeliest things of a scene with this entry of COUNTS."""
        if count == "loose":
            return (self.slots[0].loose(likeliest(self.slots[0].parts)),)
        return tuple(slot.thing() for slot in self.slots[: COUNTS.index(count)])


def predictions(scores: Scores) -> Iterator[Predictions]:
    """Yield the predictions for each image of a batch."""
    for row in range(len(scores.counts)):
        yield Predictions(
            counts=probabilities(COUNTS, scores.counts[row]),
            backgrounds=probabilities(BACKGROUNDS, scores.backgrounds[row]),
            styles=probabilities(STYLES, scores.styles[row]),
            horizon=float(scores.horizons[row]),
            slots=tuple(_slot(scores, row, slot) for slot in range(SLOTS)),
        )


def _other_counts(predicted: Predictions, scene: Scene) -> Iterator[Scene]:
    for count in possible(predicted.counts):
        if count != count_of(scene):
            yield replace(scene, things=predicted.things(count))


def _other_backgrounds(predicted: Predictions, scene: Scene) -> Iterator[Scene]:
    for background in possible(predicted.backgrounds):
        yield replace(scene, background=background)


def _other_styles(predicted: Predictions, scene: Scene) -> Iterator[Scene]:
    for style in possible(predicted.styles):
        yield replace(scene, style=style)


def _other_objects(predicted: Predictions, scene: Scene) -> Iterator[Scene]:
    for index, thing in enumerate(scene.things):
        for name in possible(predicted.slots[index].objects):
            if thing.body or thing.parts <= set(OBJECTS[name].parts):
                yield with_thing(scene, index, replace(thing, object=name))


def _other_colours(predicted: Predictions, scene: Scene) -> Iterator[Scene]:
    for index, thing in enumerate(scene.things):
        if not thing.body:
            continue
        for colour in possible(predicted.slots[index].colours):
            yield with_thing(scene, index, replace(thing, colour=colour))


def _other_loose_parts(predicted: Predictions, scene: Scene) -> Iterator[Scene]:
    if count_of(scene) != "loose":
        return
    slot = predicted.slots[0]
    fitted = scene.things[0]
    for part, log_odds in slot.parts.items():
        if log_odds > 0:
            yield with_thing(scene, 0, replace(slot.loose(part), x=fitted.x, size=fitted.size))


ALTERNATIVES: Sequence[Callable[[Predictions, Scene], Iterator[Scene]]] = (
    _other_counts,
    _other_backgrounds,
    _other_styles,
    _other_objects,
    _other_colours,
    _other_loose_parts,
)
"""For each property that the network may get wrong: the possible scenes, often including the scene itself."""


def count_of(scene: Scene) -> str:
    """Return the entry of COUNTS that describes a scene."""
    if scene.things and not scene.things[0].body:
        return "loose"
    return COUNTS[len(scene.things)]


def with_thing(scene: Scene, index: int, thing: Thing) -> Scene:
    """Return a scene with one of its things replaced."""
    return replace(scene, things=(*scene.things[:index], thing, *scene.things[index + 1 :]))


def _slot(scores: Scores, row: int, slot: int) -> SlotPredictions:
    x, size = scores.places[row, slot].tolist()
    return SlotPredictions(
        objects=probabilities(tuple(OBJECTS), scores.objects[row, slot]),
        colours=probabilities(tuple(COLOURS), scores.colours[row, slot]),
        parts=dict(zip(PARTS, scores.parts[row, slot].tolist(), strict=True)),
        x=x,
        size=size,
    )


def probabilities(names: Sequence[str] | Mapping[str, object], logits: Tensor) -> Probabilities:
    """Return the probability of each name by its logit, (names,)."""
    return dict(zip(names, logits.softmax(-1).tolist(), strict=True))


def possible(chances: Probabilities) -> list[str]:
    """Return the likeliest names, as long as they are worth a look."""
    ranked = sorted(chances, key=chances.__getitem__, reverse=True)
    return [name for name in ranked[:_RIVALS] if chances[name] >= _LEAST_PROBABILITY]


def likeliest(scores: Mapping[str, float]) -> str:
    """Return the name with the highest score."""
    return max(scores, key=scores.__getitem__)
