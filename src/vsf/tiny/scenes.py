"""Synthetic scenes: contents, captions, how often things occur, and which combinations are never trained on."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle, islice, product
from typing import Literal

from vsf.tiny.backgrounds import BACKGROUNDS, COLOURS, Background
from vsf.tiny.objects import OBJECTS, PARTS, ObjectKind

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "OBJECTS",
    "PARTS",
    "STYLES",
    "Background",
    "ObjectKind",
    "PromptPair",
    "Scene",
    "Thing",
    "caption",
    "is_held_out",
    "prompt_pairs",
    "sample_scene",
]

STYLES = ("tidy", "sketchy", "misty")
MAX_WORDS = 20

# Probabilities that a part is present.
_ESSENTIAL = 0.88
_OPTIONAL = 0.55

# Shares of all scenes: a part alone, two things, the default style.
_LOOSE = 0.15
_PAIRS = 0.12
_DEFAULT_STYLE = 0.8

# Probabilities that a caption states a fact, or has an article.
_SAY_PART = 0.5
_SAY_COLOUR = 0.85
_SAY_BACKGROUND = 0.8
_SAY_DEFAULT_STYLE = 0.05
_SAY_ARTICLE = 0.8

_HELD_OUT_PER_CENT = 10
_WITHOUT_ARTICLE = frozenset(  # plural or uncountable; every other part word takes "a" or "an"
    {"apples", "arms", "buttons", "candles", "cherries", "eyes", "fins", "flames", "leaves", "legs", "lights"}
    | {"luggage", "paws", "wheels", "windows"}
)


@dataclass(frozen=True)
class Thing:
    """An object, or one of its parts alone when `body` is False.

    `x` is its middle and `size` the side of its 100-unit box, both in fractions of the picture.
    """

    object: str
    parts: frozenset[str]
    colour: str
    x: float
    size: float
    body: bool = True


@dataclass(frozen=True)
class Scene:
    """One thing or two side by side; `horizon` is measured down from the top, in fractions of the picture."""

    things: tuple[Thing, ...]
    background: str
    style: str = STYLES[0]
    horizon: float = 0.67


def is_held_out(object: str, part: str, colour: str, background: str) -> bool:
    """Return whether this combination is kept out of training; the answer never changes."""
    # A checksum, because Python's own hash of a string differs between processes.
    key = f"{object}|{part}|{colour}|{background}"
    return zlib.crc32(key.encode()) % 100 < _HELD_OUT_PER_CENT


def sample_scene(rng: random.Random, *, held_out: bool = False) -> Scene:
    """Draw a random scene without any held-out combination, or with at least one if `held_out`.

    An essential part counts whether it is present or not, so the model cannot learn a combination from its absence.
    """
    # Here and below, the order of draws settles the training set: the same seed has to give the same scenes.
    kind = rng.random()
    if kind < _LOOSE:
        name = rng.choice(list(OBJECTS))
        part = rng.choice(OBJECTS[name].parts)
        drafts = [Thing(name, frozenset({part}), "", rng.uniform(0.44, 0.56), rng.uniform(0.62, 0.8), body=False)]
    elif kind < _LOOSE + _PAIRS:
        names = rng.sample(list(OBJECTS), 2)
        drafts = []
        for name, x in zip(names, (0.27, 0.73), strict=True):
            parts = _sample_parts(name, rng)
            drafts.append(Thing(name, parts, "", x + rng.uniform(-0.02, 0.02), rng.uniform(0.42, 0.48)))
    else:
        name = rng.choice(list(OBJECTS))
        drafts = [Thing(name, _sample_parts(name, rng), "", rng.uniform(0.42, 0.58), rng.uniform(0.64, 0.8))]
    style = STYLES[0] if rng.random() < _DEFAULT_STYLE else rng.choice(STYLES[1:])
    horizon = rng.uniform(0.63, 0.72)
    # Only place and colours are drawn again, so that held-out combinations do not change the share of any layout.
    while True:
        background = rng.choice(list(BACKGROUNDS))
        things = tuple(replace(draft, colour=rng.choice(list(COLOURS))) for draft in drafts)
        if held_out == any(_has_held_out(thing.object, thing.colour, background) for thing in things):
            return Scene(things, background, style, horizon)


def caption(scene: Scene, rng: random.Random) -> str:
    """Return a random caption of the scene: never a part that is absent, and at most 20 words."""
    mentions = []
    for thing in scene.things:
        # Sorted, because the order of a set of strings differs between processes.
        mentions.append([part for part in sorted(thing.parts) if rng.random() < _SAY_PART])
    for parts in mentions:
        rng.shuffle(parts)
    style = [scene.style] if scene.style != STYLES[0] or rng.random() < _SAY_DEFAULT_STYLE else []
    place_words = BACKGROUNDS[scene.background].phrase.split() if rng.random() < _SAY_BACKGROUND else []
    openings = []
    for thing in scene.things:
        noun = [thing.object] if thing.body else sorted(thing.parts)
        colour = [thing.colour] if thing.body and rng.random() < _SAY_COLOUR else []
        openings.append(_with_article([*style, *colour, *noun], rng))
        style = []
    if not scene.things[0].body:
        return " ".join([*openings[0], *place_words])
    while True:
        things = []
        for opening, parts in zip(openings, mentions, strict=True):
            phrases = [_with_article([part], rng) for part in parts]
            things.append([*opening, "with", *_joined(phrases)] if phrases else opening)
        words = [*_joined(things), *place_words]
        if len(words) <= MAX_WORDS:
            return " ".join(words)
        # Too long: the thing with the most named parts gives up its last.
        max(mentions, key=len).pop()


# " with", then part words joined by "and", with or without articles, up to any other word or the end.
_WITH_PARTS = re.compile(r" with (?:(?:(?:an? )?(?:{}))(?: and )?)+(?= |$)".format("|".join(PARTS)))


def without_parts(text: str) -> str:
    """Return a caption without the parts of its things; the caption of a loose part stays as it is."""
    return _WITH_PARTS.sub("", text)


def with_essentials(text: str) -> str:
    """Return a caption of one thing with all its essential parts; one of a loose part or two things stays as it is."""
    words = text.split()
    objects = OBJECTS.keys() & set(words)
    if len(objects) != 1:
        return text
    (name,) = objects
    unsaid = [_articled([part]) for part in OBJECTS[name].essential if part not in words]
    if not unsaid:
        return text
    place = _place_at_end(text)
    joint = "and" if " with " in text else "with"
    return " ".join([text.removesuffix(place), joint, *_joined(unsaid)]) + place


def _place_at_end(text: str) -> str:
    """Return the phrase of the place that ends a caption, with the space before it; nothing if there is none."""
    for background in BACKGROUNDS.values():
        if text.endswith(f" {background.phrase}"):
            return f" {background.phrase}"
    return ""


@dataclass(frozen=True)
class PromptPair:
    """A prompt for an object that nearly always comes with `negative`, which the prompt does not name."""

    prompt: str
    negative: str
    object: str
    colour: str
    background: str
    split: Literal["dev", "test"]


def prompt_pairs(count: int, *, seed: int, split: Literal["dev", "test"]) -> list[PromptPair]:
    """Return `count` pairs in an order set by `seed`: "test" from held-out combinations, "dev" from trained ones.

    Dev has as many pairs of each object and part as test, because methods do well on some and badly on others: settings
    chosen on another mixture would not score the same on test. Plain prompts ("a red car on snow") come first, then
    those that also name one other part ("a red car with lights on snow"); only after all of these do they repeat.

    Raises:
        ValueError: `split` is neither "dev" nor "test".
    """
    if split not in ("dev", "test"):
        raise ValueError(f'expected the split "dev" or "test", got {split!r}')
    plain: list[PromptPair] = []
    with_other_part: list[PromptPair] = []
    for name, colour, background in product(OBJECTS, COLOURS, BACKGROUNDS):
        for part in OBJECTS[name].essential:
            if (colour, background) not in _looks(name, part, split):
                continue
            for other_part in ("", *OBJECTS[name].parts):
                if other_part == part:
                    continue
                with_part = ["with", *_articled([other_part])] if other_part else []
                words = [*_articled([colour, name]), *with_part, *BACKGROUNDS[background].phrase.split()]
                pair = PromptPair(" ".join(words), part, name, colour, background, split)
                (with_other_part if other_part else plain).append(pair)
    rng = random.Random(f"{seed} {split}")
    rng.shuffle(plain)
    rng.shuffle(with_other_part)
    return list(islice(cycle(plain + with_other_part), count))


@cache
def _looks(name: str, part: str, split: str) -> frozenset[tuple[str, str]]:
    """Return the held-out colours and places of an object and its part, or for dev as many random trained ones."""
    looks = list(product(COLOURS, BACKGROUNDS))
    held_out = [look for look in looks if is_held_out(name, part, *look)]
    if split == "test":
        return frozenset(held_out)
    trained = [look for look in looks if not _has_held_out(name, *look)]
    # Seeded by object and part alone, so that dev holds the same combinations whatever seed orders its pairs.
    return frozenset(random.Random(f"{name} {part}").sample(trained, len(held_out)))


def _sample_parts(name: str, rng: random.Random) -> frozenset[str]:
    kind = OBJECTS[name]
    present = [part for part in kind.essential if rng.random() < _ESSENTIAL]
    present += [part for part in kind.optional if rng.random() < _OPTIONAL]
    return frozenset(present)


def _has_held_out(name: str, colour: str, background: str) -> bool:
    return any(is_held_out(name, part, colour, background) for part in OBJECTS[name].essential)


def _with_article(words: Sequence[str], rng: random.Random) -> list[str]:
    """Return the words with their article, which is sometimes left out as people do in prompts."""
    return _articled(words) if rng.random() < _SAY_ARTICLE else list(words)


def _articled(words: Sequence[str]) -> list[str]:
    if words[-1] in _WITHOUT_ARTICLE:
        return list(words)
    return ["an" if words[0][0] in "aeiou" else "a", *words]


def _joined(groups: Iterable[Sequence[str]]) -> list[str]:
    """Return the groups joined by "and"."""
    joined: list[str] = []
    for group in groups:
        joined += [*(["and"] if joined else []), *group]
    return joined
