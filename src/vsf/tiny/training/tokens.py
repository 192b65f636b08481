"""The tokenizer of the embedded models: one token for each word of the world, letters for all others."""

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
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'\"()-+"
_SPLIT = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


class Tokenizer:
    """A byte-pair tokenizer whose merges spell exactly the words of the world; CLIP's class reads its files."""

    def __init__(self, words: Iterable[str] = WORDS) -> None:
        tokens = [*_CHARACTERS, *(character + "</w>" for character in _CHARACTERS)]
        self.merges: list[tuple[str, str]] = []
        ranks: dict[tuple[str, str], int] = {}
        for word in words:
            pieces = _merged([*word[:-1], word[-1] + "</w>"], ranks)
            # Later merges rank lower, so a word that already comes out whole stays whole.
            while len(pieces) > 1:
                pair = pieces[0], pieces[1]
                ranks[pair] = len(self.merges)
                self.merges.append(pair)
                tokens.append("".join(pair))
                pieces = ["".join(pair), *pieces[2:]]
        tokens += [BEGIN, END]
        self.ids = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
        self.begin, self.end = self.ids[BEGIN], self.ids[END]

    def __call__(self, caption: str) -> list[int]:
        """Return the tokens of a caption of known words and commas, padded to `LENGTH`."""
        known = [self.ids[f"{word}</w>"] for word in re.findall(r"[a-z]+|,", caption)][: LENGTH - 2]
        return [self.begin, *known] + [self.end] * (LENGTH - 1 - len(known))

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
        plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        split = {"type": "Split", "pattern": {"Regex": _SPLIT}, "behavior": "Removed", "invert": True}
        bytes_ = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
        spaces = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": self.ids[token], "content": token, **plain} for token in (BEGIN, END)],
            "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, spaces, {"type": "Lowercase"}]},
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [split, {**bytes_, "add_prefix_space": False}],
            },
            "post_processor": {
                "type": "RobertaProcessing",
                "sep": [END, self.end],
                "cls": [BEGIN, self.begin],
                "trim_offsets": False,
                "add_prefix_space": False,
            },
            "decoder": {**bytes_, "add_prefix_space": True},
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


def _merged(pieces: list[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    while True:
        candidates = [(ranks[pair], index) for index, pair in enumerate(pairwise(pieces)) if pair in ranks]
        if not candidates:
            return pieces
        _, index = min(candidates)
        pieces = [*pieces[:index], pieces[index] + pieces[index + 1], *pieces[index + 2 :]]
