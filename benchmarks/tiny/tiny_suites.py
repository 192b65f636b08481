"""Write the suites of synthetic scenes from their grammar: ``python benchmarks/tiny/tiny_suites.py``."""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

import typer

from vsf.bench.run import jsonl
from vsf.bench.suites.load import Entry, Pair
from vsf.tiny.scenes import BACKGROUNDS, STYLES, PromptPair, prompt_pairs

SIZES: dict[Literal["dev", "test"], int] = {"dev": 200, "test": 1000}
SEED = 0
_ALL = 10_000  # more than there are of either split; those given twice are dropped


def main(
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("src/vsf/bench/suites/shipped"),
) -> None:
    """Write tiny-dev and tiny-test."""
    for split in SIZES:
        lines = []
        for pair in tiny_suite(split):
            lines.append(Entry.model_validate(vars(pair)).model_dump_json() + "\n")
        jsonl.write(out / f"tiny-{split}.jsonl", "".join(lines).encode())


def tiny_suite(split: Literal["dev", "test"]) -> list[Pair]:
    """Make the pairs of one split, all distinct, in an order in which every beginning is a fair sample of the whole.

    Both splits hold the same shares of plain prompts, prompts that name one other part or two, and prompts that name a
    style: those of test are all there are without a style, and styles fill up the number.
    """
    # Test decides the shares of both splits, because it has too few prompts without a style to choose from.
    room = SIZES["test"]
    shares = []
    for layer in _layers("test"):
        size = min(len(layer), room)
        shares.append(size / SIZES["test"])
        room -= size
    rng = random.Random(f"{SEED} {split}")
    chosen: list[PromptPair] = []
    for layer, share in zip(_layers(split), shares, strict=True):
        chosen += rng.sample(layer, min(round(share * SIZES[split]), SIZES[split] - len(chosen)))
    rng.shuffle(chosen)
    return [_pair(f"tiny-{split}-{number:04d}", pair) for number, pair in enumerate(chosen, 1)]


def _layers(split: Literal["dev", "test"]) -> list[list[PromptPair]]:
    """List every prompt of a split: plain, with one other part, with two, and in a style."""
    base = list(dict.fromkeys(prompt_pairs(_ALL, seed=SEED, split=split)))
    plain = []
    telling = []
    styled = []
    for pair in base:
        if " with " in pair.prompt:
            telling.append(pair)
            continue
        plain.append(pair)
        without_article = pair.prompt.split(" ", 1)[1]
        for style in STYLES[1:]:  # without the default style
            styled.append(_reworded(pair, f"a {style} {without_article}"))
    return [plain, telling, _with_two_parts(telling), styled]


def _with_two_parts(telling: list[PromptPair]) -> list[PromptPair]:
    """Combine prompts that name one part into prompts that name two."""
    alike: defaultdict[tuple[str, ...], list[PromptPair]] = defaultdict(list)
    for pair in telling:
        alike[pair.object, pair.colour, pair.background, pair.negative].append(pair)
    combined = []
    for group in alike.values():
        for first, second in combinations(sorted(group, key=lambda pair: pair.prompt), 2):
            opening, part_and_place = first.prompt.split(" with ")
            background = BACKGROUNDS[first.background].phrase
            parts = f"{part_and_place.removesuffix(background)}and {second.prompt.split(' with ')[1]}"
            combined.append(_reworded(first, f"{opening} with {parts}"))
    return combined


def _reworded(pair: PromptPair, prompt: str) -> PromptPair:
    return PromptPair(prompt, pair.negative, pair.object, pair.colour, pair.background, pair.split)


def _pair(name: str, pair: PromptPair) -> Pair:
    part = pair.negative
    thing = pair.object
    be = "Are" if part.endswith("s") else "Is"
    return Pair(
        id=name,
        prompt=pair.prompt,
        negative=part,
        question_positive=f"Is there a {thing} in the picture, whether or not the {part} can be seen?",
        question_negative=f"{be} the {part} of the {thing} missing or not visible in the picture?",
        about={"object": thing, "part": part, "colour": pair.colour, "background": pair.background},
    )


if __name__ == "__main__":
    typer.run(main)
