"""Negative prompts as people write them, with or without weights, and back."""

from __future__ import annotations

from collections.abc import Mapping

from vsf.errors import PromptError
from vsf.text.prompt import Prompt

Weights = dict[str, float]


def parse_negatives(written: object) -> str | Weights:
    """Read one negative or a list of them; a mapping from text to weight is what it is.

    Each is plain text of weight 1 (a colon in it is text), or weighted as A1111 and ComfyUI spell it: `(wheels:1.2)`.
    Several may stand in one text between commas, `(wheels:1.2), blurry, (lights:0.5)`; those without a weight stay
    together as one negative. Escapes and brackets are those of `Prompt.parse`.

    Returns a text where there is one of weight 1, "" where there is none, else each text with its weight.

    Raises:
        PromptError: misspelt brackets or weights, a weight below 0, or one on a part of what stands between commas.
    """
    if isinstance(written, Mapping):
        return dict(written)
    total: Weights = {}
    for entry in written if isinstance(written, list | tuple) else [written]:
        if not isinstance(entry, str):
            raise PromptError(f"a negative prompt has to be text, got {entry!r}")
        for text, weight in _parse(entry).items():
            total[text] = total.get(text, 0.0) + weight
    total = dict(Prompt("", total).negatives)
    return next(iter(total), "") if list(total.values()) in ([], [1.0]) else total


def spell(negatives: Mapping[str, float]) -> str:
    """Write negatives in one line: `blurry, (wheels:1.2)`."""
    return ", ".join(text if weight == 1 else f"({text}:{weight:g})" for text, weight in negatives.items())


def _parse(written: str) -> Weights:
    read = Prompt.parse(written)
    if read.negatives:
        found = next(iter(read.negatives))
        raise PromptError(f'"{found}" stands in the negative prompt, where weights are 0 or more; write "({found}:1)"')
    if not read.emphasis:
        return {read.positive: 1.0}
    weights, rest, at = Weights(), "", 0
    for part in read.emphasis:
        before, text = read.positive[at : part.start], read.positive[part.start : part.stop]
        if not (_ends_item(rest + before) and _ends_item(read.positive[: part.stop - 1 : -1])):
            raise PromptError(
                f'only a whole negative can be weighted, not "{text}" within one; put commas around "({text}:...)", '
                r'or write "\(" and "\)" for brackets that are text'
            )
        weights[text.strip(" ,")] = weights.get(text.strip(" ,"), 0.0) + part.weight
        rest, at = rest + before, part.stop
    items = [item.strip() for item in (rest + read.positive[at:]).split(",")]
    plain = ", ".join(item for item in items if item)
    return {**weights, plain: weights.get(plain, 0.0) + 1.0} if plain else weights


def _ends_item(text: str) -> bool:
    """Whether nothing but a comma, or the edge of the text, comes last."""
    return text.strip()[-1:] in ("", ",")
