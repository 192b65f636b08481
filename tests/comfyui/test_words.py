"""Encoding negatives: each line one, with its weight, words told from padding, in a context or not."""

import re

import pytest
import torch
from vsf_comfyui.words import encode_negatives

from comfyui.hosts import HAS_HOST, NO_HOST, REAL, host_module
from vsf.errors import KnobError, PromptError

BEGIN, END = 1, 2


class StubTokenizer:
    """A word is a token, its number its length; (word:1.2) has a weight."""

    def __init__(self, pad_to=0, min_length=0, has_begin=True, reads_weights=True, key=""):
        self.pad_to, self.min_length, self.has_begin = pad_to, min_length, has_begin
        self.reads_weights, self.key = reads_weights, key

    def __call__(self, text, return_word_ids, options):
        pieces = re.split(r"(?<!\\)(\(.*?(?<!\\):[\d.]+\))", text) if self.reads_weights else [text]
        chunk = [(BEGIN, 1.0, 0)] if self.has_begin else []
        for number, piece in enumerate(filter(None, pieces), 1):
            weighed = re.fullmatch(r"\((.*):([\d.]+)\)", piece) if self.reads_weights else None
            words, weight = (weighed[1], float(weighed[2])) if weighed else (piece, 1.0)
            chunk += [(100 + len(word.replace("\\", "")), weight, number) for word in words.split()]
        chunk.append((END, 1.0, 0))
        fill = max(self.pad_to, options.get(f"{self.key}_min_length", self.min_length)) - len(chunk)
        chunk += [(0, 1.0, 0)] * fill
        return [chunk if return_word_ids else [token[:2] for token in chunk]]


class StubClip:
    """Tokenizers by name, and rows that are laid out as some of the host's text encoders do."""

    def __init__(self, tokenizers, layout, options=None, mask=False):
        self.tokenizers, self.layout, self.options, self.mask = tokenizers, layout, options or {}, mask
        self.encoded = []

    def clone(self):
        return StubClip(self.tokenizers, self.layout, dict(self.options), self.mask)

    def set_tokenizer_option(self, name, value):
        self.options[name] = value

    def tokenize(self, text, return_word_ids=False):
        return {name: tokenizer(text, return_word_ids, self.options) for name, tokenizer in self.tokenizers.items()}

    def encode_from_tokens_scheduled(self, tokens):
        assert all(len(token) == 2 and token[1] == 1.0 for chunks in tokens.values() for token in chunks[0])
        rows = {name: torch.tensor([[float(token)] * 4 for token, _ in chunks[0]]) for name, chunks in tokens.items()}
        cond = torch.cat([rows[name] for name in self.layout])[None]
        extra = {"pooled_output": torch.zeros(1, 4)}
        if self.mask:
            extra["attention_mask"] = (cond[..., 0] > 0).long()
        return [[cond, extra]]


def clip_of(kind):
    """Text encoders as those of the host's models."""
    clip = {"l": StubTokenizer(pad_to=8), "g": StubTokenizer(pad_to=8)}
    t5 = {"t5xxl": StubTokenizer(min_length=10, has_begin=False, key="t5xxl")}
    return {
        "sdxl": lambda: StubClip(clip, ["l"]),
        "sd3": lambda: StubClip({**clip, **t5}, ["l", "t5xxl"]),
        "sd3 without t5": lambda: StubClip({**clip, **t5}, ["l"]),
        "flux": lambda: StubClip({"l": clip["l"], **t5}, ["t5xxl"]),
        "qwen": lambda: StubClip({"qwen": StubTokenizer(reads_weights=False, has_begin=False)}, ["qwen"], mask=True),
    }[kind]()


def kept(entry):
    """The tokens that a negative keeps."""
    cond, extra = entry
    return [int(token) for token in cond[0, extra["vsf_words"][0], 0]]


@pytest.mark.parametrize(
    ("kind", "tokens"),
    [
        ("sdxl", [BEGIN, 103, 104, END]),
        ("sd3", [BEGIN, 103, 104, END, 103, 104, END]),
        ("sd3 without t5", [BEGIN, 103, 104, END]),
        ("flux", [103, 104, END]),
        ("qwen", [103, 104, END]),
    ],
)
def test_words_and_marks_are_kept_and_padding_is_not(kind, tokens):
    (entry,) = encode_negatives(clip_of(kind), "old hats")
    assert kept(entry) == tokens
    marks = entry[1]["vsf_marks"][0][entry[1]["vsf_words"][0]]
    assert [int(mark) for mark in marks] == [int(token in (BEGIN, END)) for token in tokens]


def test_each_line_is_a_negative_of_its_own_weight():
    entries = encode_negatives(clip_of("flux"), "old hats\n\n(wheels:0.5)\n (a \\(b\\):2)\n(gone:0)\n(big)")
    assert [extra["vsf_weight"] for _, extra in entries] == [1.0, 0.5, 2.0, 1.1]
    assert [kept(entry) for entry in entries] == [[103, 104, END], [106, END], [101, 103, END], [103, END]]


@pytest.mark.parametrize("text", ["", "  \n", "(gone:0)"])
def test_no_words_are_a_negative_without_tokens(text):
    (entry,) = encode_negatives(clip_of("sdxl"), text)
    assert not entry[1]["vsf_words"].any()


@pytest.mark.parametrize("kind", ["sdxl", "sd3", "flux"])
def test_in_a_context_the_negatives_own_tokens_and_the_marks_are_kept(kind):
    (alone,) = encode_negatives(clip_of(kind), "wheels")
    (entry,) = encode_negatives(clip_of(kind), "wheels", "a red car with {} (old)")
    assert kept(entry) == kept(alone)
    assert entry[1]["vsf_words"].shape[1] > kept(entry).__len__()


def test_what_cannot_be_done_is_said():
    with pytest.raises(PromptError, match="a line of their own"):
        encode_negatives(clip_of("flux"), "old (hats:1.2)")
    with pytest.raises(PromptError, match="leave out the minus sign"):
        encode_negatives(clip_of("flux"), "(hats:-1.2)")
    with pytest.raises(PromptError, match=r"one \{\}"):
        encode_negatives(clip_of("flux"), "hats", "a red car")
    with pytest.raises(KnobError, match="does not tell which of its tokens"):
        encode_negatives(clip_of("qwen"), "hats", "a red car with {}")


def test_the_clip_is_left_as_it_was():
    clip = clip_of("flux")
    encode_negatives(clip, "hats")
    assert clip.options == {}


@pytest.mark.skipif(not HAS_HOST, reason=NO_HOST)
@pytest.mark.parametrize(
    ("module", "tokenizer", "layout"),
    [
        ("comfy.sd1_clip", "SD1Tokenizer", ["l"]),
        ("comfy.sdxl_clip", "SDXLTokenizer", ["l"]),
        ("comfy.text_encoders.sd3_clip", "SD3Tokenizer", ["l", "t5xxl"]),
        ("comfy.text_encoders.flux", "FluxTokenizer", ["t5xxl"]),
    ],
)
def test_with_the_hosts_own_tokenizers_words_are_told_from_padding(module, tokenizer, layout):
    import importlib

    host_module(REAL)
    own = getattr(importlib.import_module(module), tokenizer)()

    class Clip(StubClip):
        def clone(self):
            return Clip(self.tokenizers, self.layout, dict(self.options))

        def tokenize(self, text, return_word_ids=False):
            options = {"tokenizer_options": self.options} if self.options else {}
            return own.tokenize_with_weights(text, return_word_ids, **options)

    clip = Clip({}, layout)
    plain = {name: [token for token, _ in chunks[0]] for name, chunks in clip.clone().tokenize("blue wheels").items()}
    (entry,) = encode_negatives(clip, "blue wheels")
    (within,) = encode_negatives(clip, "blue wheels", "a red car with {} on snow")
    expected = []
    for name in layout:
        tokens = plain[name]
        pads = tokens.index(tokens[-1], 1) if name == "l" else tokens.index(1)
        expected += tokens[: pads + 1]
    assert kept(entry) == expected
    assert kept(within) == expected
