"""Words of a text that never reach the model: those behind a tokenizer's limit, and those that it does not know."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vsf.patching.swaps import calls_swapped


class UnreadWarning(UserWarning):
    """Some words of a prompt or a negative prompt do not reach the model."""


@dataclass(frozen=True, slots=True)
class Unread:
    """Words of `text` that a pipeline does not read.

    cut: its end, which lies behind the limit of every tokenizer; "" where all is read.
    unknown: the words of which no tokenizer knows every character.
    """

    text: str
    cut: str = ""
    unknown: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.cut or self.unknown)

    def __str__(self) -> str:
        """Say so in a sentence or two."""
        sentences = []
        if self.cut:
            sentences.append(f'"{_shortened(self.text)}" is too long: the model does not read "{_shortened(self.cut)}"')
        if self.unknown:
            words = ", ".join(f'"{_shortened(word)}"' for word in self.unknown)
            sentences.append(f'the model cannot read {words} in "{_shortened(self.text)}"')
        return "; ".join(sentences)


class Listener:
    """A stand-in for tokenizers' calls that changes nothing, and notes what of a text they leave out."""

    def __init__(self, text: str) -> None:
        self.text = text.strip()
        self._cuts: list[str] = []
        self._unknown: list[list[str]] = []

    def __call__(self, original: Any, tokenizer: Any, *args: Any, **kwargs: Any) -> Any:
        """Tokenize as asked; calls without a limit are made to count tokens, and are not noted."""
        if kwargs.get("truncation"):
            given = args[0] if args else kwargs["text"]
            (whole,) = [given] if isinstance(given, str) else given
            self._note(original, tokenizer, whole, kwargs)
        return original(tokenizer, *args, **kwargs)

    @property
    def unread(self) -> Unread:
        """What all tokenizers left out: where several read a text, it is enough that one of them does."""
        cut = min(self._cuts, key=len, default="")
        unknown = [word for word in dict.fromkeys(self.text.split()) if all(word in each for each in self._unknown)]
        return Unread(self.text, cut, tuple(unknown) if self._unknown else ())

    def _note(self, original: Any, tokenizer: Any, whole: str, options: Mapping[str, Any]) -> None:
        marks = {"add_special_tokens": options.get("add_special_tokens", True)}
        limit = options.get("max_length") or tokenizer.model_max_length

        def tokens(characters: int) -> int:
            return len(original(tokenizer, whole[:characters], **marks)["input_ids"])

        read = len(whole)
        if tokens(read) > limit:
            read = bisect_right(range(read), limit, key=tokens) - 1
        # A template may stand around the text; a pipeline that changes the text itself is taken at its word.
        begin = whole.rfind(self.text)
        end = len(whole) if begin < 0 else begin + len(self.text)
        self._cuts.append(whole[read:end].strip())
        self._unknown.append([word for word in self.text.split() if _is_unknown(original, tokenizer, word)])


@contextmanager
def listening(pipe: Any, text: str) -> Iterator[Listener]:
    """Listen to all tokenizers of a pipeline while it reads a text in a block."""
    listener = Listener(text)
    with calls_swapped((tokenizer, listener) for tokenizer in _tokenizers(pipe)):
        yield listener


def _tokenizers(pipe: Any) -> list[Any]:
    """Return a pipeline's tokenizers, each once, those inside of processors among them."""
    parts = [part for name, part in pipe.components.items() if name.startswith(("tokenizer", "processor"))]
    readers = [part if hasattr(part, "unk_token_id") else getattr(part, "tokenizer", None) for part in parts]
    return list({id(reader): reader for reader in readers if reader is not None}.values())


def _is_unknown(original: Any, tokenizer: Any, word: str) -> bool:
    """Whether a tokenizer has its mark for the unknown in the place of a word, or of a part of it."""
    unknown = tokenizer.unk_token_id
    return unknown is not None and unknown in original(tokenizer, word, add_special_tokens=False)["input_ids"]


def _shortened(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
