"""What a model family has to say about itself, and the answers that most of them share."""

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vsf.attention.layout import Span
from vsf.controls.grid import Grid
from vsf.controls.schedule import Axis
from vsf.errors import KnobError, LayoutError, PromptError, UnsupportedAttentionError, UnsupportedPipelineError
from vsf.families.base.reading import encoding_options, read_with, tokenized_with
from vsf.families.base.steps import fraction_done
from vsf.families.base.unread import Unread, UnreadWarning, listening
from vsf.families.catalogue.unsupported import refuse_shared_scales, why_not
from vsf.guidance import Guidance
from vsf.hosting import Role as Role
from vsf.patching.swaps import Override
from vsf.text.context import GAP, contexts, own_tokens
from vsf.text.embeddings import Negative, NegativeRows, Share
from vsf.text.prompt import Prompt
from vsf.text.token_weights import Characters

Negatives = str | Mapping[str, float]
"""What one prompt should leave out: a text, or several with the weight of each."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One prompt as its encoders made it: real tokens only, with their begin and end marks (`special`).

    characters: of each other token, where `Family.characters` does not tell.
    """

    embeddings: Float[Tensor, "tokens channels"]
    special: Bool[Tensor, " tokens"]
    characters: Characters | None = None


@dataclass(frozen=True, slots=True)
class Injection:
    """A denoiser call with the negatives in its text.

    arguments: what to call the denoiser with. text: the spans of the text tokens, one tuple for all rows or one per
    row. valid: (batch, negative tokens of a row), which of them are real; None when all are. weights: (batch,
    negatives), None when all are 1. beside: what a family that carries the negatives beside the model keeps there.
    """

    arguments: dict[str, Any]
    text: tuple[tuple[Span, ...], ...]
    valid: Bool[Tensor, "batch tokens"] | None
    weights: Float[Tensor, "batch negatives"] | None = None
    beside: Any = None


Running = Callable[[], Injection | None]
"""Returns the injection of the denoiser call in progress, None when it is not guided."""

Overrides = Iterable[tuple[object, Mapping[str, Override]]]
"""Parts of a denoiser, and for each the methods to stand in for."""


class Family(ABC):
    """One model architecture: where its attention is, how its text enters, how its prompts are encoded."""

    name: ClassVar[str]
    denoisers: ClassVar[tuple[str, ...]]
    """Class names of the models that predict the noise."""
    roles: ClassVar[tuple[tuple[str, Role], ...]]
    """Pattern of an attention module's name, and its role; modules that match none are not touched."""
    text: ClassVar[str] = "encoder_hidden_states"
    """The denoiser's argument that carries the text tokens, (batch, tokens, channels)."""
    text_mask: ClassVar[str] = ""
    """The argument that tells which text tokens are real, (batch, tokens), where there is one."""
    text_lengths: ClassVar[str] = ""
    """The argument that tells how many text tokens of each row are real, (batch,), where there is one instead."""
    encoder_sees_padding: ClassVar[bool] = False
    """Whether words are read differently in a text that is filled up, although a mask tells them from what fills it."""
    conditions: ClassVar[tuple[str, ...]] = ("encoder_hidden_states",)
    """All arguments that follow from the prompt: what a second call needs for another prompt."""
    guidance: ClassVar[Literal["batch", "batch, conditional first", "calls"]] = "calls"
    """How pipelines do classifier-free guidance: in one batch, unconditional rows first or last, or in two calls."""
    has_reference_layout: ClassVar[bool] = False
    negatives_first: ClassVar[bool] = False
    """Whether negatives stand in front of the positive prompt.

    Where the image comes behind the text they do, so that what the unguided model has is one piece of the sequence, and
    a layer takes a view of it instead of a copy.
    """
    channels_last: ClassVar[bool] = False
    """Whether the denoiser's output has its channels behind height and width."""

    @abstractmethod
    def encode(self, pipe: Any, text: str) -> Encoded:
        """Encode one non-empty prompt with the pipeline's own encoders. Raises PromptError when they are gone."""

    def grid(self, denoiser: Any, arguments: Mapping[str, Any]) -> Grid:
        """Return how the image tokens of a denoiser call lie in the picture, in its finest layers.

        Here: latents (batch, channels, height, width), cut into patches.
        """
        height, width = arguments["hidden_states"].shape[-2:]
        return Grid(height // denoiser.config.patch_size, width // denoiser.config.patch_size)

    def characters(self, pipe: Any, text: str) -> Characters:
        """Tell which characters of a prompt each text token of a denoiser call stands for.

        Raises KnobError where that is not known.
        """
        del pipe, text
        raise KnobError(
            f"words of a prompt cannot be weighed for {self.name} yet, nor be picked out of within=, because it is not "
            "known which tokens they become; leave (word:1.3) or within= out. Weights of negatives, (word:-1.3), work"
        )

    def text_of(self, arguments: Mapping[str, Any]) -> Float[Tensor, "batch tokens channels"]:
        """Return the text tokens of a denoiser call: negatives get their device, dtype and channels."""
        return arguments[self.text]

    def texts_of(self, arguments: Mapping[str, Any]) -> Sequence[Tensor]:
        """Return the text of each batch row of a denoiser call, to tell rows of different prompts apart."""
        return arguments[self.text]

    def row_count(self, arguments: Mapping[str, Any]) -> int:
        """Return how many batch rows a denoiser call has."""
        return len(self.text_of(arguments))

    def overrides(self, denoiser: Any, running: Running) -> Overrides:
        """Return methods of the denoiser's parts to stand in for while a session lasts: (part, name -> override)."""
        del denoiser, running
        return ()

    def encode_all(
        self,
        pipe: Any,
        negatives: Negatives | Sequence[Negatives],
        within: str | Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Negative:
        """Encode the negatives of one prompt, a text or {text: weight}, or of each; "" and {} have no token.

        Each text is encoded on its own, because a batch would bring padding back, or `within` its context. The
        pipeline reads them with `options`, those of a call without arguments if left out. Raises PromptError for
        anything else, and KnobError where it is not known which tokens are the negative's.
        """
        require_encode_prompt(pipe)
        alone = isinstance(negatives, str) or not isinstance(negatives, Sequence)
        wanted = [_weights(own) for own in ([negatives] if alone else negatives)]
        places = contexts(within, len(wanted))
        asked = [[(text, place) for text in own] for own, place in zip(wanted, places, strict=True)]
        options = encoding_options(pipe, {}) if options is None else options
        encoded = {one: self._encode_in(pipe, *one, options) for own in asked for one in own}
        width = next((one.embeddings.shape[1] for one in encoded.values()), 0)
        nothing = Encoded(torch.zeros(0, width), torch.zeros(0, dtype=torch.bool))
        found = [[encoded[one] for one in own] or [nothing] for own in asked]
        shares = [
            tuple(Share(len(one.special), weight) for one, weight in zip(entries, own.values(), strict=False))
            for entries, own in zip(found, wanted, strict=True)
        ]
        return Negative(
            tuple(torch.cat([one.embeddings for one in entries]) for entries in found),
            tuple(torch.cat([one.special for one in entries]) for entries in found),
            tuple(own or (Share(0),) for own in shares),
            tuple(tuple(own) for own in wanted),
            options,
        )

    def unread(self, pipe: Any, text: str) -> Unread:
        """Return the words of a prompt, not a blank one, that its encoders do not get to read. Raises PromptError."""
        require_encode_prompt(pipe)
        with read_with(pipe, encoding_options(pipe, {})), listening(pipe, text) as listener:
            self.encode(pipe, text)
        return listener.unread

    def _encode_in(self, pipe: Any, text: str, within: str | None, options: Mapping[str, Any]) -> Encoded:
        """Encode one negative, alone or in its context; warn of words that are not read.

        Raises PromptError when none of the negative's words is.
        """
        whole = text if within is None else within.replace(GAP, text)
        with read_with(pipe, options), listening(pipe, whole) as listener:
            encoded = self.encode(pipe, whole)
        unread = listener.unread
        if set(text.split()) <= set(unread.unknown):
            raise PromptError(f"nothing is left of this negative prompt: {unread}; use other words")
        if unread:
            warnings.warn(str(unread), UnreadWarning, stacklevel=4)
        if within is None:
            return encoded
        characters = encoded.characters
        if characters is None:
            with tokenized_with(pipe, options):
                characters = self.characters(pipe, whole)
        kept = own_tokens(text, within, characters, encoded.special)
        return Encoded(encoded.embeddings[kept], encoded.special[kept])

    def denoisers_of(self, target: Any) -> list[nn.Module]:
        """Return the models to guide: the target itself, or those among a pipeline's components."""
        components = [target] if isinstance(target, nn.Module) else getattr(target, "components", {}).values()
        return [part for part in components if set(class_names(part)) & set(self.denoisers)]

    def attention_layers(self, denoiser: nn.Module) -> dict[str, tuple[nn.Module, Role]]:
        """Find the attention layers to guide, by name. Raises UnsupportedAttentionError when there is none."""
        layers = {
            name: (module, role)
            for name, module in denoiser.named_modules()
            for pattern, role in self.roles
            if re.fullmatch(pattern, name) and hasattr(module, "processor")
        }
        if not layers:
            raise UnsupportedAttentionError(f"{type(denoiser).__name__} has no attention layer that can be guided")
        return layers

    def check(self, target: Any, method: Guidance) -> None:
        """Raise KnobError or UnsupportedPipelineError for what this family cannot do."""
        if method.token_layout == "reference" and not self.has_reference_layout:
            raise KnobError(f'layout="reference" exists for sd3 only, not for {self.name}; use layout="paper"')
        if reason := why_not(type(target)):
            raise UnsupportedPipelineError(f"{type(target).__name__} cannot be guided: {reason}")
        for denoiser in self.denoisers_of(target):
            refuse_shared_scales(denoiser)

    def conditional_rows(self, pipe: Any, arguments: Mapping[str, Any]) -> list[bool]:
        """Tell for each row of a denoiser call whether it stands for the positive prompt.

        `pipe` is None when the denoiser is guided on its own; then every row does. Calls that are unconditional as a
        whole (`guidance` is "calls") do not come here.
        """
        rows = self.row_count(arguments)
        if self.guidance == "calls" or not getattr(pipe, "do_classifier_free_guidance", False):
            return [True] * rows
        return halves(rows, first=self.guidance == "batch, conditional first")

    def joined(self, positive: Tensor, negative: Tensor, dim: int = 1) -> Tensor:
        """Put what belongs to the negatives' tokens in front of what belongs to the positive's, or behind it."""
        return torch.cat([negative, positive] if self.negatives_first else [positive, negative], dim)

    def inject(self, denoiser: Any, arguments: Mapping[str, Any], negative: NegativeRows, layout: str) -> Injection:
        """Put the negatives beside the text tokens, and as many ones beside their mask."""
        del denoiser, layout
        text, added = arguments[self.text], negative.embeddings.shape[1]
        changed = {self.text: self.joined(text, negative.embeddings)}
        mask = arguments.get(self.text_mask)
        if mask is not None:
            changed[self.text_mask] = self.joined(mask, mask.new_ones(len(mask), added))
        positive = Span("positive", text.shape[1])
        spans = (*negative.spans, positive) if self.negatives_first else (positive, *negative.spans)
        return Injection({**arguments, **changed}, (spans,), negative.valid(added), negative.weights)

    def fraction_done(self, pipe: Any, over: Axis, timestep: Any = None, first: Any = None) -> float:
        """Tell which fraction of a run's steps, or of its noise, is done before a denoiser call, 0 in the first step.

        `timestep` is the call's, `first` that of the run's first call. Raises KnobError if it cannot be told.
        """
        return fraction_done(pipe, over, timestep, first)


def require_encode_prompt(pipe: Any) -> None:
    """Raise PromptError for what encodes no prompts: modular pipelines and denoisers."""
    if isinstance(pipe, nn.Module):
        raise PromptError("a denoiser cannot encode texts: pass negative=vsf.encode(pipe, texts) of its pipeline")
    if "ModularPipeline" in class_names(pipe):
        raise PromptError(
            f"{type(pipe).__name__} reads prompts in blocks of its own: encode with an ordinary pipeline of the "
            "same parts, negative = vsf.encode(ordinary, texts), then guide(pipe, negative=negative)"
        )


def require_encoders(pipe: Any, *names: str) -> None:
    """Raise PromptError when one of these parts of a pipeline, which encode its prompts, is gone."""
    if any(getattr(pipe, name, None) is None for name in names):
        raise PromptError(
            "the pipeline's text encoders are gone: encode before freeing them, negative = vsf.encode(pipe, text), "
            "then guide(pipe, negative=negative)"
        )


def _weights(negatives: object) -> Mapping[str, float]:
    """Return the weight of each negative of one prompt; None is none."""
    if negatives is None:
        return {}
    if isinstance(negatives, str):
        return {negatives: 1.0} if negatives.strip() else {}
    if isinstance(negatives, Mapping):
        return Prompt("", negatives).negatives
    raise PromptError(
        f"the negatives of a prompt are {{text: weight}}, or texts, got {type(negatives).__name__}; "
        "a vsf.Prompt has them as .negatives"
    )


def class_names(target: object) -> list[str]:
    """Return the class names of an object, of what it wraps when it is compiled, and of their bases."""
    return [cls.__name__ for cls in type(getattr(target, "_orig_mod", target)).__mro__]


def halves(rows: int, *, first: bool = False) -> list[bool]:
    """Return the rows of classifier-free guidance in one batch, the conditional ones `first` or last.

    Raises LayoutError for an odd number of rows.
    """
    if rows % 2:
        raise LayoutError(f"classifier-free guidance needs an even number of rows, got {rows}")
    return [first] * (rows // 2) + [not first] * (rows // 2)
