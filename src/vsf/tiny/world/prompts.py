"""Write prompts that imply something without naming it, and negative prompts that ask to leave it out."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Literal

from vsf.tiny.world.colours import COLOURS
from vsf.tiny.world.objects import OBJECTS
from vsf.tiny.world.places import PLACES
from vsf.tiny.world.scenes import has_held_out, is_held_out
from vsf.tiny.world.styles import DEFAULT_STYLE
from vsf.tiny.world.words import OBJECT_WORDS, PART_WORDS, PLACE_PART_WORDS, PLACE_PHRASES, article

Kind = Literal["part", "place part", "colour", "object", "place", "style"]
Split = Literal["dev", "test"]
_TEST_SHARE = 0.2
"""Share of the test split among prompts without a held-out combination."""


@dataclass(frozen=True)
class PromptPair:
    """A prompt and its negative prompt, with all that the picture should show.

    Attributes:
        prompt: Names neither the negative nor anything that implies it by name.
        negative: The negative prompt, one word.
        kind: The kind of fact that the negative names.
        fact: That fact's name in the tables of scenes: "picture" for the word "painting".
        object: The first object that the prompt asks for.
        colour: Its colour; empty if the prompt does not state it.
        place: Where it is; empty if the prompt does not state it.
        parts: Parts of it that the prompt names.
        beside: A second object to its right; empty if there is none.
        split: "test" prompts hold combinations that were kept out of training, or prompts that "dev" does not have.
    """

    prompt: str
    negative: str
    kind: Kind
    fact: str
    object: str
    colour: str
    place: str
    parts: tuple[str, ...]
    beside: str
    split: Split


def prompt_pairs(count: int, *, seed: int, split: Split, kinds: Sequence[Kind] = ()) -> list[PromptPair]:
    """Return different pairs, equally many of each kind, in an order set by ``seed``.

    Args:
        count: Number of pairs.
        seed: Settles which pairs are chosen and their order.
        split: "dev" or "test"; no prompt is in both.
        kinds: Kinds of negatives; all if empty.

    Raises:
        ValueError: There is no such split, or it has too few pairs.
    """
    if split not in ("dev", "test"):
        raise ValueError(f'expected the split "dev" or "test", got {split!r}')
    chosen_kinds = kinds or tuple(_WRITERS)
    # Rounded up: the surplus is cut off after shuffling.
    per_kind = -(-count // len(chosen_kinds))
    pairs: list[PromptPair] = []
    for kind in chosen_kinds:
        # Each kind has its own generator, so that leaving one out changes no other kind's pairs.
        rng = random.Random(f"{seed} {split} {kind}")
        candidates = [pair for pair in _WRITERS[kind]() if pair.split == split]
        if len(candidates) < per_kind:
            raise ValueError(f"expected at most {len(candidates)} {split} pairs of the kind {kind!r}, got {per_kind}")
        pairs += rng.sample(candidates, per_kind)
    random.Random(f"{seed} {split}").shuffle(pairs)
    return pairs[:count]


def _parts() -> Iterator[PromptPair]:
    """Write pairs whose negative is an essential part, plain, with another part named, and beside another object."""
    for name, colour, place in product(OBJECTS, COLOURS, PLACES):
        for part in OBJECTS[name].essential:
            split: Split = "test" if is_held_out(name, part, colour, place) else "dev"
            if split == "dev" and has_held_out(name, colour, place):
                continue  # held out for another part: neither trained on nor asked for
            negative = PART_WORDS[part][0]
            yield _pair("part", part, negative, name, colour, place, split=split)
            other_parts = [candidate for candidate in OBJECTS[name].parts if candidate != part]
            for other_part in other_parts[:2]:
                yield _pair("part", part, negative, name, colour, place, parts=(other_part,), split=split)
            beside = _neighbour(name, part, colour, place)
            yield _pair("part", part, negative, name, colour, place, beside=beside, split=split)


def _place_parts() -> Iterator[PromptPair]:
    """Write pairs whose negative is an essential part of the place."""
    for name, colour, place in product(OBJECTS, COLOURS, PLACES):
        for part in PLACES[place].essential:
            if part not in OBJECTS[name].parts:  # a castle has towers of its own
                yield _pair("place part", part, PLACE_PART_WORDS[part][0], name, colour, place)


def _colours() -> Iterator[PromptPair]:
    """Write pairs whose negative is the usual colour of an object."""
    for name, place in product(OBJECTS, PLACES):
        usual = OBJECTS[name].usual
        if not usual:
            continue
        for parts in _none_or_one_part(name):
            yield _pair("colour", usual, usual, name, "", place, parts=parts)


def _objects() -> Iterator[PromptPair]:
    """Write pairs whose negative is the companion of an object."""
    for name, colour, place in product(OBJECTS, COLOURS, PLACES):
        companion = OBJECTS[name].companion
        if not companion:
            continue
        for parts in _none_or_one_part(name):
            yield _pair("object", companion, OBJECT_WORDS[companion][0], name, colour, place, parts=parts)


def _places() -> Iterator[PromptPair]:
    """Write pairs whose negative is the place where an object is at home."""
    for name, colour in product(OBJECTS, COLOURS):
        home = OBJECTS[name].home
        if not home:
            continue
        for parts in _none_or_one_part(name):
            yield _pair("place", home, home, name, colour, "", parts=parts)


def _styles() -> Iterator[PromptPair]:
    """Write pairs whose negative is the default style."""
    for name, colour, place in product(OBJECTS, COLOURS, PLACES):
        yield _pair("style", DEFAULT_STYLE, DEFAULT_STYLE, name, colour, place)


_WRITERS: Mapping[Kind, Callable[[], Iterator[PromptPair]]] = MappingProxyType(
    {
        "part": _parts,
        "place part": _place_parts,
        "colour": _colours,
        "object": _objects,
        "place": _places,
        "style": _styles,
    }
)


def _none_or_one_part(name: str) -> list[tuple[str, ...]]:
    """Return the choices of named parts: none, and each of the object's parts alone."""
    return [(), *((part,) for part in OBJECTS[name].parts)]


def _pair(
    kind: Kind,
    fact: str,
    negative: str,
    name: str,
    colour: str,
    place: str,
    *,
    parts: tuple[str, ...] = (),
    beside: str = "",
    split: Split | None = None,
) -> PromptPair:
    """Write the prompt of a pair; without a split, one is chosen by a hash of the prompt."""
    words = [_with_article(OBJECT_WORDS[name][0], colour)]
    if parts:
        words += ["with", " and ".join(_with_article(PART_WORDS[part][0]) for part in parts)]
    if beside:
        words += ["left of", _with_article(OBJECT_WORDS[beside][0])]
    if place:
        words.append(PLACE_PHRASES[place][0])
    prompt = " ".join(words)
    split = split or ("test" if _chance(f"{kind} {negative} {prompt}") < _TEST_SHARE else "dev")
    return PromptPair(prompt, negative, kind, fact, name, colour, place, parts, beside, split)


def _neighbour(name: str, part: str, colour: str, place: str) -> str:
    """Choose an object without this part to stand beside another, by a hash of the pair's facts."""
    candidates = [candidate for candidate, kind in OBJECTS.items() if candidate != name and part not in kind.parts]
    return candidates[int(_chance(f"{name} {part} {colour} {place}") * len(candidates))]


def _with_article(noun: str, adjective: str = "") -> str:
    phrase = f"{adjective} {noun}".strip()
    return f"{article(noun, phrase)} {phrase}".strip()


def _chance(key: str) -> float:
    """Return a number from 0 to 1 that depends on the key alone."""
    return zlib.crc32(key.encode()) / 2**32
