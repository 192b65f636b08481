"""Write captions of scenes the way people prompt: in many words and orders, and never naming a part that is absent."""

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

# Probabilities that a caption states a fact.
SAY_PART = 0.5
SAY_PLACE_PART = 0.42
SAY_COLOUR = 0.7
SAY_PLACE = 0.8
SAY_STYLE = 0.95
SAY_DEFAULT_STYLE = 0.25

# Probabilities of how it states them.
_USUAL_WORD = 0.72
_ARTICLE = 0.82
_PLACE_FIRST = 0.12
_COMMA_BEFORE_PLACE = 0.15
_OPENER = 0.12
_STYLED_OPENER = 0.2
_FILLER = 0.06
_COLOUR_AFTER_NOUN = 0.2
_COLOUR_WITH_IN = 0.06  # "a car in red"; the rest of those with the colour after the noun say "a car that is red"


@dataclass(frozen=True)
class CaptionPlan:
    """The facts of a scene that a caption states, and a seed for their wording.

    Attributes:
        scene: The scene.
        parts: For each thing, its parts that are named, in that order.
        colours: For each thing, whether its colour is stated.
        place: Whether the place is named.
        place_parts: The place's parts that are named, in that order.
        style: Whether the style is named.
        wording: Settles every choice among words and orders; the same facts and wording give the same text.
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
        """Indices of the things that are named."""
        return tuple(index for index, thing in enumerate(self.scene.things) if thing.named)

    def without_parts(self) -> CaptionPlan:
        """Return the plan without parts of things; a part that stands alone stays."""
        return replace(self, parts=tuple(() for _ in self.parts))

    def with_essentials(self) -> CaptionPlan:
        """Return the plan with all essential parts of its things, absent ones too, unless it becomes too long."""
        parts = []
        for thing, named_parts in zip(self.scene.things, self.parts, strict=True):
            essential = OBJECTS[thing.object].essential if thing.body else ()
            parts.append((*named_parts, *(part for part in essential if part not in named_parts)))
        longer = replace(self, parts=tuple(parts))
        return longer if _length(longer.text()) <= MAX_WORDS else self

    def text(self) -> str:
        """Return the caption."""
        styled_opener = self.style and self._chance("styled opener") < _STYLED_OPENER
        adjective = self._word("style", words.STYLE_WORDS[self.scene.style]) if self.style else ""
        core = self._things_phrase("" if styled_opener else adjective)
        place = self._place_phrase()
        if place and self._chance("place first") < _PLACE_FIRST:
            core = f"{place}, {core}"
        else:
            comma = "," if place and self._chance("comma") < _COMMA_BEFORE_PLACE else ""
            core = f"{core}{comma} {place}".strip()
        if styled_opener:
            opener = self._choose("styled opener word", words.STYLED_OPENERS)
            return f"{words.article('picture', adjective)} {adjective} {opener} {core}"
        # A caption that begins with its place takes none: not "a picture of in the forest, a car".
        if self._chance("opener") < _OPENER and not core.startswith(place or "-"):
            return f"{self._choose('opener word', words.OPENERS)} {core}"
        return core

    def _things_phrase(self, adjective: str) -> str:
        """Return all named things; the adjective goes to the first one."""
        indices = set(self.things)
        # A companion that captions do not name leaves its relation unsaid.
        relations = [relation for relation in self.scene.relations if {relation.first, relation.second} <= indices]
        if len(indices) == 1:
            return self._thing_phrase(self.things[0], adjective)
        if len(indices) == 2:
            return self._pair(relations[0], adjective)
        return self._three(relations, adjective)

    def _pair(self, relation: Relation, adjective: str) -> str:
        forward = self._chance("direction") < 0.6
        first, second = (relation.first, relation.second) if forward else (relation.second, relation.first)
        preposition = self._choose("relation", self._prepositions(relation, forward))
        return f"{self._thing_phrase(first, adjective)} {preposition} {self._thing_phrase(second)}"

    def _prepositions(self, relation: Relation, forward: bool) -> Sequence[str]:
        """Return the prepositions for a relation; ``forward`` if its first thing is named first."""
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
            return self._three_in_a_row(adjective)
        side = next(relation for relation in relations if relation.kind == "left of")
        third = side.first if side.second in (stack.first, stack.second) else side.second
        on = self._choose("on word", words.ON)
        preposition = self._choose("relation", self._prepositions(side, forward=third == side.second))
        rider = self._thing_phrase(stack.first, adjective)
        return f"{rider} {on} {self._thing_phrase(stack.second)} {preposition} {self._thing_phrase(third)}"

    def _three_in_a_row(self, adjective: str) -> str:
        left, middle, right = self.things
        if self._chance("between") < 0.35:
            between = self._choose("between word", words.BETWEEN)
            outer = f"{self._thing_phrase(left)} and {self._thing_phrase(right)}"
            return f"{self._thing_phrase(middle, adjective)} {between} {outer}"
        first = self._thing_phrase(left, adjective)
        return f"{first}, {self._thing_phrase(middle)} and {self._thing_phrase(right)}"

    def _thing_phrase(self, index: int, adjective: str = "") -> str:
        """Return a thing with its colour and its parts: "a red car with wheels", "a car that is red"."""
        thing = self.scene.things[index]
        if not thing.body:
            (part,) = thing.parts
            return self._with_article(f"loose {part}", self._word(part, words.PART_WORDS[part]), adjective)
        noun = self._word(f"object {index}", words.OBJECT_WORDS[thing.object])
        colour = self._word(f"colour {index}", words.COLOUR_WORDS[thing.colour]) if self.colours[index] else ""
        filler = ""
        if self._chance(f"fill {index}") < _FILLER:
            filler = self._choose(f"filler {index}", words.FILLERS)
        form = self._chance(f"form {index}")
        colour_after_noun = bool(colour) and form < _COLOUR_AFTER_NOUN
        that_is = colour_after_noun and form >= _COLOUR_WITH_IN
        adjectives = f"{adjective} {filler}" if colour_after_noun else f"{adjective} {filler} {colour}"
        phrase = self._with_article(f"object {index}", noun, adjectives)
        if colour_after_noun:
            phrase += f" that is {colour}" if that_is else f" in {colour}"
        if not self.parts[index]:
            return phrase
        joint = self._parts_joint(index, after_that_is=that_is)
        return f"{phrase} {joint} {self._parts_list(index, self.parts[index])}"

    def _parts_joint(self, index: int, *, after_that_is: bool) -> str:
        if after_that_is and self._chance(f"has {index}") < 0.5:
            return "and has"
        chance = self._chance(f"with {index}")
        if chance < 0.84:
            return "with"
        return "that has" if chance < 0.92 else "having"

    def _parts_list(self, index: int, parts: Sequence[str]) -> str:
        nouns = [self._with_article(part, self._word(f"{index} {part}", words.PART_WORDS[part])) for part in parts]
        return self._enumerate(f"list {index}", nouns)

    def _place_phrase(self) -> str:
        phrase = self._word("place", words.PLACE_PHRASES[self.scene.place]) if self.place else ""
        if not self.place_parts:
            return phrase
        nouns = []
        for part in self.place_parts:
            key = f"of place {part}"
            nouns.append(self._with_article(key, self._word(key, words.PLACE_PART_WORDS[part])))
        joint = "with"
        if self._chance("place joint") < 0.4:
            joint = "under" if words.SKY_PARTS.issuperset(self.place_parts) else "near"
        return f"{phrase} {joint} {self._enumerate('place list', nouns)}".strip()

    def _with_article(self, key: str, noun: str, adjectives: str = "") -> str:
        """Return adjectives and noun with their article, which is sometimes left out as people do in prompts."""
        phrase = " ".join([*adjectives.split(), noun])
        article = words.article(noun.split()[-1], phrase)
        if self._chance(f"article {key}") > _ARTICLE or not article:
            return phrase
        if article != "the" and self._chance(f"the {key}") < 0.06:
            article = "the"
        return f"{article} {phrase}"

    def _enumerate(self, key: str, phrases: Sequence[str]) -> str:
        """Join phrases by "and", or some lists of three or more by commas and a last "and"."""
        if len(phrases) > 2 and self._chance(key) < 0.5:
            return f"{', '.join(phrases[:-1])} and {phrases[-1]}"
        return " and ".join(phrases)

    def _word(self, key: str, options: Sequence[str]) -> str:
        """Return the usual word, which comes first, or now and then one of the others."""
        chance = self._chance(f"word {key}")
        if chance < _USUAL_WORD or len(options) == 1:
            return options[0]
        # The chances above the usual word's are shared evenly by the other words.
        return options[1 + int((chance - _USUAL_WORD) / (1 - _USUAL_WORD) * (len(options) - 1))]

    def _choose(self, key: str, options: Sequence[str]) -> str:
        return options[int(self._chance(key) * len(options))]

    def _chance(self, key: str) -> float:
        """Return a number from 0 to 1, excluding 1, that depends on nothing but the wording and this key.

        With a key for each choice, a fact that is added or left out changes no other choice: captions with and without
        parts keep their words.
        """
        # A checksum maps similar keys to related numbers; Knuth's multiplier spreads them.
        return (zlib.crc32(f"{self.wording} {key}".encode()) * 2654435761 % 2**32) / 2**32


def plan_caption(scene: Scene, rng: random.Random) -> CaptionPlan:
    """Choose the facts that a caption states: about half of the parts, and at most 28 words and commas in all."""
    # Every draw below is part of the training set: another order would give other captions for the same seed.
    parts = tuple(_sample_parts(thing, rng) for thing in scene.things)
    colours = tuple(thing.body and rng.random() < SAY_COLOUR for thing in scene.things)
    say_place = rng.random() < SAY_PLACE
    place_parts = [part for part in sorted(scene.place_parts) if rng.random() < SAY_PLACE_PART]
    rng.shuffle(place_parts)
    say_style = rng.random() < (SAY_DEFAULT_STYLE if scene.style == DEFAULT_STYLE else SAY_STYLE)
    wording = rng.getrandbits(32)
    plan = CaptionPlan(scene, parts, colours, say_place, tuple(place_parts), say_style, wording)
    while _length(plan.text()) > MAX_WORDS:
        plan = _shorter(plan)
    return plan


def caption(scene: Scene, rng: random.Random) -> str:
    """Return a random caption of the scene."""
    return plan_caption(scene, rng).text()


def _shorter(plan: CaptionPlan) -> CaptionPlan:
    """Leave out one part: of the place first, then of the thing of which most are named; at last all colours."""
    if plan.place_parts:
        return replace(plan, place_parts=plan.place_parts[:-1])
    most = max(range(len(plan.parts)), key=lambda index: len(plan.parts[index]))
    if not plan.parts[most]:
        return replace(plan, colours=tuple(False for _ in plan.colours))
    return replace(plan, parts=(*plan.parts[:most], plan.parts[most][:-1], *plan.parts[most + 1 :]))


def _sample_parts(thing: Thing, rng: random.Random) -> tuple[str, ...]:
    if not thing.body or not thing.named:
        return ()
    # Sorted, because the order of a set of strings differs between processes.
    parts = [part for part in sorted(thing.parts) if rng.random() < SAY_PART]
    rng.shuffle(parts)
    return tuple(parts)


def _length(text: str) -> int:
    return len(text.split()) + text.count(",")
