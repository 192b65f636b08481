"""Prompts for things that nearly always come with what the negative prompt asks away and the prompt does not name."""

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


@dataclass(frozen=True)
class PromptPair:
    """A prompt, what is to be gone, and everything that is to be there.

    Attributes:
        prompt: Names neither the negative nor anything that implies it.
        negative: One word: the negative prompt.
        kind: What the negative is a name of.
        fact: Its name in the world: "picture" for the word "painting".
        object: The first object that is asked for.
        colour: Its colour; empty if the prompt does not tell it.
        place: Where it is; empty if the prompt does not tell it.
        parts: Parts of it that the prompt names.
        beside: A second object to its right; empty if there is none.
        split: "test" prompts hold combinations that were kept out of training, or words that dev has not.
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
    """Return ``count`` different pairs, as many of each kind, in an order set by ``seed``.

    Args:
        count: How many.
        seed: Settles which ones and their order.
        split: "dev" or "test"; no prompt is in both.
        kinds: Kinds of negatives; all if empty.

    Raises:
        ValueError: There is no such split, or there are not so many pairs.
    """
    if split not in ("dev", "test"):
        raise ValueError(f'expected the split "dev" or "test", got {split!r}')
    chosen = kinds or tuple(_WRITERS)
    share = -(-count // len(chosen))
    pairs: list[PromptPair] = []
    for kind in chosen:
        rng = random.Random(f"{seed} {split} {kind}")
        every = [pair for pair in _WRITERS[kind]() if pair.split == split]
        if len(every) < share:
            raise ValueError(f"expected at most {len(every)} {split} pairs of the kind {kind!r}, got {share}")
        pairs += rng.sample(every, share)
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
            others = [other for other in OBJECTS[name].parts if other != part]
            for other in others[:2]:
                yield _pair("part", part, negative, name, colour, place, parts=(other,), split=split)
            beside = _neighbour(name, part, colour, place)
            yield _pair("part", part, negative, name, colour, place, beside=beside, split=split)


def _place_parts() -> Iterator[PromptPair]:
    for name, colour, place in product(OBJECTS, COLOURS, PLACES):
        for part in PLACES[place].essential:
            if part not in OBJECTS[name].parts:  # a castle has towers of its own
                yield _pair("place part", part, PLACE_PART_WORDS[part][0], name, colour, place)


def _colours() -> Iterator[PromptPair]:
    for name, place in product(OBJECTS, PLACES):
        usual = OBJECTS[name].usual
        for parts in ((), *((part,) for part in OBJECTS[name].parts)) if usual else ():
            yield _pair("colour", usual, usual, name, "", place, parts=parts)


def _objects() -> Iterator[PromptPair]:
    for name, colour, place in product(OBJECTS, COLOURS, PLACES):
        companion = OBJECTS[name].companion
        for parts in ((), *((part,) for part in OBJECTS[name].parts)) if companion else ():
            yield _pair("object", companion, OBJECT_WORDS[companion][0], name, colour, place, parts=parts)


def _places() -> Iterator[PromptPair]:
    for name, colour in product(OBJECTS, COLOURS):
        home = OBJECTS[name].home
        for parts in ((), *((part,) for part in OBJECTS[name].parts)) if home else ():
            yield _pair("place", home, home, name, colour, "", parts=parts)


def _styles() -> Iterator[PromptPair]:
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
    words = [_articled(OBJECT_WORDS[name][0], colour)]
    if parts:
        words += ["with", " and ".join(_articled(PART_WORDS[part][0]) for part in parts)]
    if beside:
        words += ["left of", _articled(OBJECT_WORDS[beside][0])]
    if place:
        words.append(PLACE_PHRASES[place][0])
    prompt = " ".join(words)
    split = split or ("test" if _chance(f"{kind} {negative} {prompt}") < 0.2 else "dev")
    return PromptPair(prompt, negative, kind, fact, name, colour, place, parts, beside, split)


def _neighbour(*facts: str) -> str:
    """Return an object to stand beside another, without the part that is to go: chosen by lot from the facts."""
    name, part, *_ = facts
    others = [other for other, kind in OBJECTS.items() if other != name and part not in kind.parts]
    return others[int(_chance(" ".join(facts)) * len(others))]


def _articled(noun: str, adjective: str = "") -> str:
    phrase = f"{adjective} {noun}".strip()
    return f"{article(noun, phrase)} {phrase}".strip()


def _chance(key: str) -> float:
    return zlib.crc32(key.encode()) / 2**32
