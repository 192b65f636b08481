"""The tokenizer of the embedded models: one token for each word of the captions, single letters for all others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from vsf.tiny.world.words import WORDS

LENGTH = 32
"""Tokens of a prompt, begin and end included."""
BEGIN = "<|startoftext|>"
END = "<|endoftext|>"
_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'\"()-+"
# CLIP's pattern: marks, endings like 's, words, single digits, runs of other signs.
_SPLIT = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Tokenizer:
    """A byte-pair tokenizer whose merges spell exactly the given words; CLIPTokenizer reads its files.

    Args:
        words: Words that become one token each.
    """

    def __init__(self, words: Iterable[str] = WORDS) -> None:
        tokens = list(_CHARACTERS)
        tokens += [character + "</w>" for character in _CHARACTERS]
        self.merges: list[tuple[str, str]] = []
        ranks: dict[tuple[str, str], int] = {}
        for word in words:
            pieces = _apply_merges([*word[:-1], word[-1] + "</w>"], ranks)
            # Later merges have a lower priority, so a word that already comes out as one token still does.
            while len(pieces) > 1:
                pair = (pieces[0], pieces[1])
                ranks[pair] = len(self.merges)
                self.merges.append(pair)
                tokens.append("".join(pair))
                pieces = ["".join(pair), *pieces[2:]]
        tokens += [BEGIN, END]
        # Different merges can spell the same token, which keeps the number of the first.
        self.ids = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
        self.begin = self.ids[BEGIN]
        self.end = self.ids[END]

    def __call__(self, caption: str) -> list[int]:
        """Return the token ids of a caption of known words and commas, cut or padded to `LENGTH`."""
        ids = [self.ids[f"{word}</w>"] for word in re.findall(r"[a-z]+|,", caption)]
        # The begin and end marks take two places, and CLIP pads with the end mark.
        ids = ids[: LENGTH - 2]
        return [self.begin, *ids] + [self.end] * (LENGTH - 1 - len(ids))

    def save(self, folder: Path) -> None:
        """Write the files that ``CLIPTokenizer.from_pretrained`` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "backend": "tokenizers",
            "bos_token": BEGIN,
            "eos_token": END,
            "model_max_length": LENGTH,
            "pad_token": END,
            "tokenizer_class": "CLIPTokenizer",
            "unk_token": END,
        }
        for name, content in (("tokenizer.json", self._description()), ("tokenizer_config.json", settings)):
            (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def _description(self) -> dict[str, Any]:
        """Return the tokenizer in the format of the tokenizers library."""
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        split = {"type": "Split", "pattern": {"Regex": _SPLIT}, "behavior": "Removed", "invert": True}
        byte_level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
        spaces = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": self.ids[token], "content": token, **flags} for token in (BEGIN, END)],
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, spaces, {"type": "Lowercase"}]},
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [split, {**byte_level, "add_prefix_space": False}],
            },
            "post_processor": {
                "type": "RobertaProcessing",
                "sep": [END, self.end],
                "cls": [BEGIN, self.begin],
                "trim_offsets": False,
                "add_prefix_space": False,
            },
            "decoder": {**byte_level, "add_prefix_space": True},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": END,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "</w>",
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": self.ids,
                "merges": [list(pair) for pair in self.merges],
            },
        }


def _apply_merges(pieces: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """Merge neighbouring pieces, the pair of the lowest rank first, until no known pair is left."""
    while True:
        candidates = [(ranks[pair], index) for index, pair in enumerate(pairwise(pieces)) if pair in ranks]
        if not candidates:
            return pieces
        _, index = min(candidates)
        pieces = [*pieces[:index], pieces[index] + pieces[index + 1], *pieces[index + 2 :]]
