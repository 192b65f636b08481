"""Words of a prompt that never reach the model: those behind a tokenizer's limit, and those that it does not know."""

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vsf.families.base.host import CallArguments, Original, Pipeline, Tokenizer
from vsf.patching.swaps import calls_swapped


class UnreadWarning(UserWarning):
    """Some words of a prompt or a negative prompt do not reach the model."""


@dataclass(frozen=True, slots=True)
class Unread:
    """Words of a text that a pipeline does not read.

    Attributes:
        text: the whole text.
        cut: its end, which lies behind the limit of every tokenizer; "" where all is read.
        unknown: words with a character that no tokenizer knows.
    """

    text: str
    cut: str = ""
    unknown: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self.cut or self.unknown)

    def __str__(self) -> str:
        """Describe them in a sentence or two."""
        sentences = []
        if self.cut:
            sentences.append(f'"{_shortened(self.text)}" is too long: the model does not read "{_shortened(self.cut)}"')
        if self.unknown:
            words = ", ".join(f'"{_shortened(word)}"' for word in self.unknown)
            sentences.append(f'the model cannot read {words} in "{_shortened(self.text)}"')
        return "; ".join(sentences)


class Listener:
    """An override of tokenizers' calls that changes nothing, and records the words of a text that they leave out."""

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        self._cuts: list[str] = []
        self._unknown: list[list[str]] = []

    def __call__(self, original: Original, tokenizer: Tokenizer, *args: Any, **kwargs: Any) -> Any:
        """Tokenize as asked. Calls without a limit are not recorded: pipelines make them only to count tokens."""
        if kwargs.get("truncation"):
            texts = args[0] if args else kwargs["text"]
            (prompt,) = [texts] if isinstance(texts, str) else texts
            self._record(original, tokenizer, prompt, kwargs)
        return original(tokenizer, *args, **kwargs)

    @property
    def unread(self) -> Unread:
        """The words that all tokenizers leave out; a word that one of several reads is read."""
        if not self._cuts:
            return Unread(self.text)
        unknown = []
        for word in dict.fromkeys(self.text.split()):
            if all(word in words for words in self._unknown):
                unknown.append(word)
        return Unread(self.text, min(self._cuts, key=len), tuple(unknown))

    def _record(self, original: Original, tokenizer: Tokenizer, prompt: str, options: CallArguments) -> None:
        add_marks = options.get("add_special_tokens", True)
        limit = options.get("max_length") or tokenizer.model_max_length

        def count_tokens(characters: int) -> int:
            return len(original(tokenizer, prompt[:characters], add_special_tokens=add_marks)["input_ids"])

        # The more characters, the more tokens, so the limit is found by bisection; slow tokenizers tell no offsets.
        read = len(prompt)
        if count_tokens(read) > limit:
            read = bisect_right(range(read), limit, key=count_tokens) - 1
        # A template may stand around the text. A pipeline that changes the text is taken at its word: all of the
        # changed text counts as the prompt's.
        begin = prompt.rfind(self.text)
        end = len(prompt) if begin < 0 else begin + len(self.text)
        self._cuts.append(prompt[read:end].strip())
        self._unknown.append([word for word in self.text.split() if _is_unknown(original, tokenizer, word)])


@contextmanager
def listening(pipe: Pipeline, text: str) -> Iterator[Listener]:
    """Record the words of a text that a pipeline's tokenizers leave out while a block lets it read the text."""
    listener = Listener(text)
    with calls_swapped((tokenizer, listener) for tokenizer in _tokenizers(pipe)):
        yield listener


def _tokenizers(pipe: Pipeline) -> list[Any]:
    """Return a pipeline's tokenizers, each once, with those inside processors."""
    tokenizers = {}
    for name, part in pipe.components.items():
        if "tokenizer" in name or name.startswith("processor"):
            tokenizer = part if hasattr(part, "unk_token_id") else getattr(part, "tokenizer", None)
            if tokenizer is not None:
                tokenizers[id(tokenizer)] = tokenizer
    return list(tokenizers.values())


def _is_unknown(original: Original, tokenizer: Tokenizer, word: str) -> bool:
    """Return whether a tokenizer replaces a word, or a part of it, by its token for the unknown."""
    unknown = tokenizer.unk_token_id
    return unknown is not None and unknown in original(tokenizer, word, add_special_tokens=False)["input_ids"]


def _shortened(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
