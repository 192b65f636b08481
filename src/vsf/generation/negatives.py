"""Negative prompts as people write them, with or without weights: parsing and formatting."""

from __future__ import annotations

from collections.abc import Mapping

from vsf.errors import PromptError
from vsf.text.prompt import Prompt

Weights = dict[str, float]


def parse_negatives(written: object) -> str | Weights:
    """Parse one negative prompt or a list of them; a mapping from text to weight is returned as it is.

    Each entry is plain text of weight 1 (a colon in it is text), or weighted as A1111 and ComfyUI spell it:
    `(wheels:1.2)`. One text may hold several, separated by commas: `(wheels:1.2), blurry, (lights:0.5)`; those without
    a weight stay together as one negative. Escapes and brackets follow `Prompt.parse`.

    Returns:
        The text if there is one negative of weight 1, "" if there is none, otherwise the weight of each text.

    Raises:
        PromptError: misspelt brackets or weights, a weight below 0, or a weight on only part of an item between commas.
    """
    if isinstance(written, Mapping):
        return dict(written)
    total: Weights = {}
    for entry in written if isinstance(written, list | tuple) else [written]:
        if not isinstance(entry, str):
            raise PromptError(f"a negative prompt has to be text, got {entry!r}")
        for text, weight in _parse(entry).items():
            total[text] = total.get(text, 0.0) + weight
    # A Prompt strips the texts, and drops those that are blank or weigh 0.
    normalised = dict(Prompt("", total).negatives)
    if list(normalised.values()) in ([], [1.0]):
        return next(iter(normalised), "")
    return normalised


def format_negatives(negatives: Mapping[str, float]) -> str:
    """Format negatives on one line: `blurry, (wheels:1.2)`."""
    return ", ".join(text if weight == 1 else f"({text}:{weight:g})" for text, weight in negatives.items())


def _parse(written: str) -> Weights:
    """Parse one text into its weighted items and, with weight 1, everything else in it."""
    prompt = Prompt.parse(written)
    if prompt.negatives:
        inline = next(iter(prompt.negatives))
        raise PromptError(
            f'"{inline}" stands in the negative prompt, where weights are 0 or more; write "({inline}:1)"'
        )
    if not prompt.emphasis:
        return {prompt.positive: 1.0}
    weights: Weights = {}
    unweighted = ""
    position = 0
    for part in prompt.emphasis:
        unweighted += prompt.positive[position : part.start]
        text = prompt.positive[part.start : part.stop]
        following = prompt.positive[part.stop :]
        is_whole_item = unweighted.strip()[-1:] in ("", ",") and following.strip()[:1] in ("", ",")
        if not is_whole_item:
            raise PromptError(
                f'only a whole negative can be weighted, not "{text}" within one; put commas around "({text}:...)", '
                r'or write "\(" and "\)" for brackets that are text'
            )
        item = text.strip(" ,")
        weights[item] = weights.get(item, 0.0) + part.weight
        position = part.stop
    unweighted += prompt.positive[position:]
    plain = ", ".join(filter(None, map(str.strip, unweighted.split(","))))
    if plain:
        weights[plain] = weights.get(plain, 0.0) + 1.0
    return weights
