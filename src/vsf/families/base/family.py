"""The base class of all model families, with the answers that most of them share."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vsf.attention.layout import Span
from vsf.controls.clock import causal_frames
from vsf.controls.grid import Grid
from vsf.controls.schedule import Axis
from vsf.errors import KnobError, LayoutError, PromptError, UnsupportedAttentionError, UnsupportedPipelineError
from vsf.families.base.clip import frames_per_latent
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.base.masks import extend_mask
from vsf.families.base.patches import patch_grid, patch_sizes
from vsf.families.base.steps import Timestep, fraction_done
from vsf.families.catalogue.unsupported import check_activation_scales, unsupported_reason
from vsf.guidance import Guidance
from vsf.hosting import Role as Role  # part of every family's declarations, so families import it from here
from vsf.hosting.call import KeysAndValues
from vsf.patching.swaps import Override
from vsf.text.embeddings import NegativeRows
from vsf.text.token_weights import Characters

Tokens = Float[Tensor, "batch tokens channels"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """One prompt as the text encoders return it, without padding.

    Attributes:
        embeddings: (tokens, channels), begin and end marks included.
        special: which of the tokens are begin or end marks, or a template's.
        characters: of each token that is not special; None where `Family.characters` tells them.
    """

    embeddings: Float[Tensor, "tokens channels"]
    special: Bool[Tensor, " tokens"]
    characters: Characters | None = None


@dataclass(slots=True, eq=False)
class NegativeStream:
    """The negatives of one denoiser call between two blocks: the hidden states of their tokens, and their positions.

    Attributes:
        start: makes both. It is called in the first block, because an offloaded model has its weights on the device
            only while it runs.
        tokens: hidden states behind the block that ran last; None before the first.
        rope: rotary embedding of the tokens, (batch, tokens, angles); None where the text has no positions.
    """

    start: Callable[[], tuple[Tokens, Tensor | None]]
    tokens: Tokens | None = None
    rope: Tensor | None = None

    def enter(self) -> Tokens:
        """Return the hidden states that the next block gets."""
        if self.tokens is None:
            self.tokens, self.rope = self.start()
        return self.tokens


@dataclass(frozen=True, slots=True)
class Injection:
    """A denoiser call with the negatives in its text.

    Attributes:
        arguments: the denoiser's arguments.
        text: spans of the text tokens, one tuple for all batch rows or one per row.
        valid: (batch, negative tokens of a row), which of them are real; None when all are.
        weights: (batch, negatives); None when all are 1.
        stream: the negatives where a family passes them from block to block instead of through the arguments.
        negative_keys: keys and values of the negatives by attention layer, where no rows stand for them in the call.
    """

    arguments: dict[str, Any]
    text: tuple[tuple[Span, ...], ...]
    valid: Bool[Tensor, "batch tokens"] | None
    weights: Float[Tensor, "batch negatives"] | None = None
    stream: NegativeStream | None = None
    negative_keys: Mapping[str, KeysAndValues] | None = None


Running = Callable[[], Injection | None]
"""Returns the injection of the denoiser call in progress, None when that call is not guided."""

Overrides = Iterable[tuple[object, Mapping[str, Override]]]
"""Parts of a denoiser, and the methods to override on each."""


class Family(ABC):
    """One model architecture: its attention layers, the way its text enters, and the encoding of its prompts."""

    name: ClassVar[str]
    denoisers: ClassVar[tuple[str, ...]]
    """Class names of the models that predict the noise."""
    pipelines: ClassVar[tuple[str, ...]] = ()
    """Class names of the diffusers pipelines that the tests run."""
    pipelines_since: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Those of them that the oldest supported diffusers lacks, and the release that brought each."""
    tested_weights: ClassVar[str] = "tiny random weights"
    """The weights of the models in those tests."""
    roles: ClassVar[tuple[tuple[str, Role], ...]]
    """Pattern of an attention module's name, and its role; modules that match no pattern are left alone."""
    text: ClassVar[str] = "encoder_hidden_states"
    """The denoiser's argument with the text tokens, (batch, tokens, channels)."""
    text_mask: ClassVar[str] = ""
    """The argument that marks real text tokens, (batch, tokens); "" where there is none."""
    text_lengths: ClassVar[str] = ""
    """The argument with the number of real text tokens of each row, (batch,), for models with that instead of a mask;
    "" for the others."""
    encodes_from_parts: ClassVar[bool] = False
    """Whether `encode` uses a pipeline's parts alone, none of its functions, and so serves modular pipelines too."""
    encoder_sees_padding: ClassVar[bool] = False
    """Whether padding changes how the text encoder reads the words, although the denoiser masks the padding."""
    conditions: ClassVar[tuple[str, ...]] = ("encoder_hidden_states",)
    """All arguments that follow from the prompt: those that a second call for another prompt replaces."""
    guidance: ClassVar[Literal["batch", "batch, conditional first", "calls"]] = "calls"
    """How pipelines run classifier-free guidance: in one batch, unconditional rows first or last, or in two calls."""
    guides_above_one: ClassVar[bool] = False
    """Whether the pipelines do not say that they run it, but do so where their `guidance_scale` is above 1."""
    has_reference_layout: ClassVar[bool] = False
    """Whether the token layout of the VSF authors' code is supported too."""
    negatives_first: ClassVar[bool] = False
    """Whether negatives stand in front of the positive prompt.

    They do where the image comes behind the text: the tokens of the unguided model are then one piece of the sequence,
    and a layer takes a view of it instead of a copy.
    """
    channels_last: ClassVar[bool] = False
    """Whether the denoiser's latents, in and out, have their channels behind frames, height and width."""
    keeps_text_whole: ClassVar[bool] = False
    """Whether every process has the whole text in the guided layers, where context parallelism spreads image tokens."""
    frames_first: ClassVar[bool] = False
    """Whether the denoiser's latents, in and out, have their frames in front of the channels."""
    shares_sound_layers: ClassVar[bool] = False
    """Whether sound attends in the layers of the picture; the grid then tells which image tokens are sound."""
    clip_rate: ClassVar[float | None] = None
    """The usual frames per second of its clips; None for a family that draws pictures."""
    clip_ratio: ClassVar[int] = 4
    """How many frames of a clip each latent frame but the first stands for, where the pipeline does not tell."""
    in_sections: ClassVar[tuple[str, ...]] = ()
    """Class names of pipelines and denoisers that make a clip piece by piece: a call does not tell which frames it
    holds."""

    # Prompts --------------------------------------------------------------------------------------------------------

    @abstractmethod
    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Encode one prompt, never a blank one, with the pipeline's own encoders.

        Raises:
            PromptError: the encoders are gone.
        """

    def characters(self, pipe: Pipeline, text: str) -> Characters:
        """Return the characters of a prompt that each text token of a denoiser call stands for.

        Raises:
            KnobError: they are not known.
        """
        raise KnobError(
            f"words of a prompt cannot be weighed for {self.name} yet, nor be picked out of within=, because it is not "
            "known which tokens they become; leave (word:1.3) or within= out. Weights of negatives, (word:-1.3), work"
        )

    # The model ------------------------------------------------------------------------------------------------------

    def denoisers_of(self, target: Pipeline | Denoiser) -> list[nn.Module]:
        """Return the models to guide: the target itself, or those among a pipeline's components."""
        components = [target] if isinstance(target, nn.Module) else getattr(target, "components", {}).values()
        return [part for part in components if self.recognises(part)]

    def recognises(self, part: object) -> bool:
        """Return whether an object is one of this family's denoisers."""
        return bool(set(architecture_names(part)) & set(self.denoisers))

    def attention_layers(self, denoiser: nn.Module) -> dict[str, tuple[nn.Module, Role]]:
        """Return the attention layers to guide, by name. Raises UnsupportedAttentionError when there is none."""
        layers = {}
        for name, module in denoiser.named_modules():
            for pattern, role in self.roles:
                if re.fullmatch(pattern, name) and hasattr(module, "processor"):
                    layers[name] = (module, role)
        if not layers:
            raise UnsupportedAttentionError(f"{type(denoiser).__name__} has no attention layer that can be guided")
        return layers

    def check(self, target: Pipeline | Denoiser, method: Guidance) -> None:
        """Check that a pipeline, or a denoiser on its own, can be guided with a method.

        Raises:
            KnobError: the method has a token layout that the family does not support.
            UnsupportedPipelineError: the pipeline, or the quantisation of its weights, rules guidance out.
        """
        if method.token_layout == "reference" and not self.has_reference_layout:
            raise KnobError(f'layout="reference" exists for sd3 only, not for {self.name}; use layout="paper"')
        if reason := unsupported_reason(type(target)):
            raise UnsupportedPipelineError(f"{type(target).__name__} cannot be guided: {reason}")
        for denoiser in self.denoisers_of(target):
            check_activation_scales(denoiser)

    def overrides(self, denoiser: Denoiser, running: Running) -> Overrides:
        """Return methods of the denoiser's parts to override while a session lasts; none by default."""
        return ()

    # One denoiser call ----------------------------------------------------------------------------------------------

    def inject(self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows, layout: str) -> Injection:
        """Put the negatives beside the text tokens, and mark them as real in the text's mask.

        Args:
            denoiser: the model that is called.
            arguments: of the host's call.
            negative: the negatives of every batch row.
            layout: "paper" or, where `has_reference_layout`, "reference".
        """
        text = arguments[self.text]
        added = negative.embeddings.shape[1]
        changed: dict[str, Any] = {self.text: self.joined(text, negative.embeddings)}
        mask = arguments.get(self.text_mask)
        if mask is not None:
            # All tokens, because the mask is the host's. The padding of a row's negatives is hidden by `valid`.
            changed[self.text_mask] = extend_mask(mask, added, in_front=self.negatives_first)
        positive = Span("positive", text.shape[1])
        spans = (*negative.spans, positive) if self.negatives_first else (positive, *negative.spans)
        return Injection({**arguments, **changed}, (spans,), negative.valid(added), negative.weights)

    def joined(self, positive: Tensor, negative: Tensor, dim: int = 1) -> Tensor:
        """Concatenate rows of the negatives' tokens with those of the positive's, in the order of `negatives_first`."""
        return torch.cat([negative, positive] if self.negatives_first else [positive, negative], dim)

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Return how the image tokens of a denoiser call lie in the picture, in its finest layers.

        By default: latents (batch, channels, [frames,] height, width), or with `channels_last` the channels at the end,
        are cut into patches.
        """
        patch = patch_sizes(denoiser.config)
        shape = arguments["hidden_states"].shape
        sizes = shape[:-1] if self.channels_last else shape
        return patch_grid(sizes[-len(patch) :], patch)

    def text_of(self, arguments: CallArguments) -> Tokens:
        """Return the text tokens of a denoiser call, whose device, dtype and channels negatives take on."""
        return arguments[self.text]

    def texts_of(self, arguments: CallArguments) -> Sequence[Tensor]:
        """Return the text of each batch row of a denoiser call, to tell rows of different prompts apart."""
        return arguments[self.text]

    def row_count(self, arguments: CallArguments) -> int:
        """Return the number of batch rows of a denoiser call."""
        return len(self.text_of(arguments))

    def clip_frames(
        self, denoiser: Denoiser, pipe: Pipeline | None, arguments: CallArguments, frames: int
    ) -> tuple[int, ...]:
        """Return for each frame of the grid how many frames of the clip it stands for.

        By default: one for the first, and for every other one what the autoencoder makes a latent frame of.

        Args:
            denoiser: the model that is called.
            pipe: the pipeline; None when the denoiser is guided on its own.
            arguments: those of the pipeline's call.
            frames: how many frames the grid has.

        Raises:
            KnobError: the call holds another part of the clip than all of it.
        """
        return causal_frames(frames, frames_per_latent(pipe) or self.clip_ratio)

    # The pipeline's run ---------------------------------------------------------------------------------------------

    def conditional_rows(self, pipe: Pipeline | None, arguments: CallArguments) -> list[bool]:
        """Tell for each row of a denoiser call whether it stands for the positive prompt.

        Calls that are unconditional as a whole (`guidance` is "calls") are sorted out before.

        Args:
            pipe: the pipeline; None when the denoiser is guided on its own, and then every row is conditional.
            arguments: of the denoiser call.
        """
        rows = self.row_count(arguments)
        if self.guides_above_one:
            is_guided = pipe is not None and pipe.guidance_scale > 1
        else:
            is_guided = getattr(pipe, "do_classifier_free_guidance", False)
        if self.guidance == "calls" or not is_guided:
            return [True] * rows
        return halves(rows, first=self.guidance == "batch, conditional first")

    def check_time(self, target: Pipeline | Denoiser, arguments: CallArguments) -> None:
        """Check that the times of a clip's frames can be known.

        Args:
            target: the pipeline, or a denoiser on its own.
            arguments: those of the pipeline's call, as far as they are known yet.

        Raises:
            KnobError: they cannot.
        """
        name = type(target).__name__
        if self.clip_rate is None:
            raise KnobError(f"{name} draws no clips, or each frame by itself: leave out frames= and seconds=")
        if set(class_names(target)) & set(self.in_sections):
            raise in_sections(name)

    def fraction_done(
        self, pipe: Pipeline, over: Axis, timestep: Timestep | None = None, first: Timestep | None = None
    ) -> float:
        """Return the fraction of a run's steps, or of its noise, that is done before a denoiser call.

        Args:
            pipe: holds the scheduler.
            over: count steps or noise.
            timestep: of the call.
            first: timestep of the run's first call, at which the fraction is 0.

        Raises:
            KnobError: it is not known.
        """
        return fraction_done(pipe, over, timestep, first)

    @property
    def has_sound(self) -> bool:
        """True if the sound of a clip can be told from its picture: by layers of its own, or among the tokens."""
        return self.shares_sound_layers or any(not role.picture for _, role in self.roles)

    @property
    def negatives_enter(self) -> str:
        """The path of negatives to the attention layers, as the table of families words it."""
        if any(role.kind == "joint" for _, role in self.roles):
            return "in the text, which attends together with the image"
        return "in the text that the image attends to"


def in_sections(name: str) -> KnobError:
    """Return the error for a range of time in a clip that is made piece by piece."""
    return KnobError(
        f"{name} makes its clip piece by piece, and a call of the denoiser does not tell which frames it holds: leave "
        "out frames=, seconds= and a mask with frames"
    )


def require_encoders(pipe: Pipeline, *names: str) -> None:
    """Raise PromptError when one of these parts of a pipeline, which encode its prompts, is gone."""
    if any(getattr(pipe, name, None) is None for name in names):
        raise PromptError(
            "the pipeline's text encoders are gone: encode before freeing them, negative = vsf.encode(pipe, text), "
            "then guide(pipe, negative=negative)"
        )


def class_names(target: object) -> list[str]:
    """Return the class names of an object and of its bases; of a compiled model, those of the model inside."""
    return [cls.__name__ for cls in type(getattr(target, "_orig_mod", target)).__mro__]


def architecture_names(part: object) -> list[str]:
    """Return the class names that tell the architecture of a model: up to the first class that diffusers defines.

    A class that users derive from a model of diffusers is the same model to us, but one that diffusers itself derives
    is another model, with a name of its own.
    """
    names = []
    for cls in type(getattr(part, "_orig_mod", part)).__mro__:
        names.append(cls.__name__)
        if cls.__module__.startswith("diffusers."):
            break
    return names


def halves(rows: int, *, first: bool = False) -> list[bool]:
    """Return which rows are conditional under classifier-free guidance in one batch: the `first` half or the last.

    Raises:
        LayoutError: the number of rows is odd.
    """
    if rows % 2:
        raise LayoutError(f"classifier-free guidance needs an even number of rows, got {rows}")
    return [first] * (rows // 2) + [not first] * (rows // 2)
