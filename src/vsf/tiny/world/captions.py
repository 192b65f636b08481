"""Tell a scene as people would: never a part that is absent, in many words and orders."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vsf.tiny.world import words
from vsf.tiny.world.objects import OBJECTS
from vsf.tiny.world.scenes import Relation, Scene, Thing
from vsf.tiny.world.styles import DEFAULT_STYLE

MAX_WORDS = 28
"""Words and commas of the longest caption."""
SAY_PART, SAY_PLACE_PART, SAY_COLOUR, SAY_PLACE = 0.5, 0.42, 0.7, 0.8
SAY_STYLE, SAY_DEFAULT_STYLE = 0.95, 0.25
_USUAL_WORD, _SAY_ARTICLE = 0.72, 0.82


@dataclass(frozen=True)
class Telling:
    """Which facts of a scene are told, and how.

    Attributes:
        scene: What is told of.
        parts: For each thing its parts that are told, in the order they are.
        colours: For each thing whether its colour is told.
        place: Whether the place is told.
        place_parts: The place's parts that are told.
        style: Whether the style is told.
        wording: Settles every choice among words and orders; the same facts and number give the same text.
    """

    scene: Scene
    parts: tuple[tuple[str, ...], ...]
    colours: tuple[bool, ...]
    place: bool
    place_parts: tuple[str, ...]
    style: bool
    wording: int

    @property
    def things(self) -> tuple[int, ...]:
        """Indices of the things that are told."""
        return tuple(index for index, thing in enumerate(self.scene.things) if thing.told)

    def without_parts(self) -> Telling:
        """Return the telling without parts of things; a part that is alone stays."""
        return replace(self, parts=tuple(() for _ in self.parts))

    def with_essentials(self) -> Telling:
        """Return the telling with all essential parts of its things, whether there or not, if that is not too long."""
        parts = tuple(
            told if not thing.body else (*told, *(part for part in OBJECTS[thing.object].essential if part not in told))
            for thing, told in zip(self.scene.things, self.parts, strict=True)
        )
        longer = replace(self, parts=parts)
        return longer if _length(longer.text()) <= MAX_WORDS else self

    def text(self) -> str:
        """Return the caption."""
        styled_opener = self.style and self._chance("styled opener") < 0.2
        adjective = self._word("style", words.STYLE_WORDS[self.scene.style]) if self.style else ""
        core = self._things("" if styled_opener else adjective)
        place = self._place()
        if place and self._chance("place first") < 0.12:
            core = f"{place}, {core}"
        else:
            core = f"{core}{',' if place and self._chance('comma') < 0.15 else ''} {place}".strip()
        if styled_opener:
            opener = self._choose("styled opener word", words.STYLED_OPENERS)
            return f"{words.article('picture', adjective)} {adjective} {opener} {core}"
        if self._chance("opener") < 0.12 and not core.startswith(place or "-"):
            return f"{self._choose('opener word', words.OPENERS)} {core}"
        return core

    def _things(self, adjective: str) -> str:
        indices = self.things
        relations = [one for one in self.scene.relations if {one.first, one.second} <= set(indices)]
        if len(indices) == 1:
            return self._noun(indices[0], adjective)
        if len(indices) == 2:
            return self._pair(relations[0], adjective)
        return self._three(relations, adjective)

    def _pair(self, relation: Relation, adjective: str) -> str:
        forward = self._chance("direction") < 0.6
        first, second = (relation.first, relation.second) if forward else (relation.second, relation.first)
        said = self._choose("relation", self._joints(relation, forward))
        return f"{self._noun(first, adjective)} {said} {self._noun(second)}"

    def _joints(self, relation: Relation, forward: bool) -> Sequence[str]:
        if relation.kind == "behind":
            return words.BEHIND if forward else words.IN_FRONT
        if relation.kind == "on":
            return words.ON if forward else words.UNDER
        if self._chance("exact side") < 0.5:
            return words.BESIDE
        return words.LEFT_OF if forward else words.RIGHT_OF

    def _three(self, relations: Sequence[Relation], adjective: str) -> str:
        stack = next((relation for relation in relations if relation.kind == "on"), None)
        if stack is None:
            left, middle, right = self.things
            if self._chance("between") < 0.35:
                joint = self._choose("between word", words.BETWEEN)
                return f"{self._noun(middle, adjective)} {joint} {self._noun(left)} and {self._noun(right)}"
            return f"{self._noun(left, adjective)}, {self._noun(middle)} and {self._noun(right)}"
        side = next(relation for relation in relations if relation.kind == "left of")
        third = side.first if side.second in (stack.first, stack.second) else side.second
        forward = third == side.second
        on = self._choose("on word", words.ON)
        beside = self._choose("relation", self._joints(side, forward))
        return f"{self._noun(stack.first, adjective)} {on} {self._noun(stack.second)} {beside} {self._noun(third)}"

    def _noun(self, index: int, adjective: str = "") -> str:
        """Return a thing with its colour and its parts: "a red car with wheels", "a car that is red"."""
        thing = self.scene.things[index]
        if not thing.body:
            (part,) = thing.parts
            return self._articled(f"loose {part}", self._word(part, words.PART_WORDS[part]), adjective)
        noun = self._word(f"object {index}", words.OBJECT_WORDS[thing.object])
        colour = self._word(f"colour {index}", words.COLOUR_WORDS[thing.colour]) if self.colours[index] else ""
        filler = self._choose(f"filler {index}", words.FILLERS) if self._chance(f"fill {index}") < 0.06 else ""
        form = self._chance(f"form {index}")
        colour_behind = bool(colour) and form < 0.2
        before = f"{adjective} {filler}" if colour_behind else f"{adjective} {filler} {colour}"
        told = self._articled(f"object {index}", noun, before)
        if colour_behind:
            told += f" in {colour}" if form < 0.06 else f" that is {colour}"
        if not self.parts[index]:
            return told
        joint = self._parts_joint(index, after_that_is=colour_behind and form >= 0.06)
        return f"{told} {joint} {self._listed(index, self.parts[index])}"

    def _parts_joint(self, index: int, *, after_that_is: bool) -> str:
        if after_that_is and self._chance(f"has {index}") < 0.5:
            return "and has"
        chance = self._chance(f"with {index}")
        if chance < 0.84:
            return "with"
        return "that has" if chance < 0.92 else "having"

    def _listed(self, index: int, parts: Sequence[str]) -> str:
        named = [self._articled(part, self._word(f"{index} {part}", words.PART_WORDS[part])) for part in parts]
        return self._joined(f"list {index}", named)

    def _place(self) -> str:
        told = self._word("place", words.PLACE_PHRASES[self.scene.place]) if self.place else ""
        if not self.place_parts:
            return told
        named = [
            self._articled(f"of place {part}", self._word(f"of place {part}", words.PLACE_PART_WORDS[part]))
            for part in self.place_parts
        ]
        joint = "with"
        if self._chance("place joint") < 0.4:
            joint = "under" if words.SKY_PARTS.issuperset(self.place_parts) else "near"
        return f"{told} {joint} {self._joined('place list', named)}".strip()

    def _articled(self, key: str, noun: str, before: str = "") -> str:
        """Return adjectives and noun behind their article, which is sometimes left out as people do in prompts."""
        phrase = " ".join([*before.split(), noun])
        chosen = words.article(noun.split()[-1], phrase)
        if self._chance(f"article {key}") > _SAY_ARTICLE or not chosen:
            return phrase
        return f"{'the' if chosen != 'the' and self._chance(f'the {key}') < 0.06 else chosen} {phrase}"

    def _joined(self, key: str, phrases: Sequence[str]) -> str:
        if len(phrases) > 2 and self._chance(key) < 0.5:
            return f"{', '.join(phrases[:-1])} and {phrases[-1]}"
        return " and ".join(phrases)

    def _word(self, key: str, options: Sequence[str]) -> str:
        """Return the usual word, or now and then one of the others."""
        chance = self._chance(f"word {key}")
        if chance < _USUAL_WORD or len(options) == 1:
            return options[0]
        return options[1 + int((chance - _USUAL_WORD) / (1 - _USUAL_WORD) * (len(options) - 1))]

    def _choose(self, key: str, options: Sequence[str]) -> str:
        return options[int(self._chance(key) * len(options))]

    def _chance(self, key: str) -> float:
        """Return a number from 0 to 1, excluding 1, that depends on nothing but the wording and this key."""
        return (zlib.crc32(f"{self.wording} {key}".encode()) * 2654435761 % 2**32) / 2**32


def tell(scene: Scene, rng: random.Random) -> Telling:
    """Choose what to say of a scene: about half of its parts, and at most 28 words."""
    telling = Telling(
        scene,
        parts=tuple(_some(thing, rng) for thing in scene.things),
        colours=tuple(thing.body and rng.random() < SAY_COLOUR for thing in scene.things),
        place=rng.random() < SAY_PLACE,
        place_parts=_shuffled([part for part in sorted(scene.place_parts) if rng.random() < SAY_PLACE_PART], rng),
        style=rng.random() < (SAY_DEFAULT_STYLE if scene.style == DEFAULT_STYLE else SAY_STYLE),
        wording=rng.getrandbits(32),
    )
    while _length(telling.text()) > MAX_WORDS:
        telling = _shorter(telling)
    return telling


def caption(scene: Scene, rng: random.Random) -> str:
    """Return what someone might say of the scene."""
    return tell(scene, rng).text()


def _shorter(telling: Telling) -> Telling:
    """Leave out one part: of the place first, then of the thing of which most are told."""
    if telling.place_parts:
        return replace(telling, place_parts=telling.place_parts[:-1])
    most = max(range(len(telling.parts)), key=lambda index: len(telling.parts[index]))
    if not telling.parts[most]:
        return replace(telling, colours=tuple(False for _ in telling.colours))
    parts = tuple(told[:-1] if index == most else told for index, told in enumerate(telling.parts))
    return replace(telling, parts=parts)


def _some(thing: Thing, rng: random.Random) -> tuple[str, ...]:
    if not thing.body or not thing.told:
        return ()
    return _shuffled([part for part in sorted(thing.parts) if rng.random() < SAY_PART], rng)


def _shuffled(parts: list[str], rng: random.Random) -> tuple[str, ...]:
    rng.shuffle(parts)
    return tuple(parts)


def _length(text: str) -> int:
    return len(text.split()) + text.count(",")
