"""Facts about ComfyUI's models: where the text is in their attention, and which parts treat it as a whole.

A negative is appended to the positive text. Most of a model treats every text token alike, but some parts number the
tokens, pad the text or let it attend to itself. The corrections here make those parts treat each text as if it stood
alone, for the duration of one model call.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import ceil, prod
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from vsf.attention.layout import Span
from vsf.controls.grid import Grid
from vsf.errors import UnsupportedPipelineError
from vsf.hosting import Role

from .interfaces import Options


@dataclass(frozen=True)
class Texts:
    """Lengths of the texts of one model call.

    Attributes:
        positive: Tokens of the positive text.
        negatives: Tokens of each negative.
        starts: Position of each negative's first real token in a prompt of its own, behind padding that was cut off.
    """

    positive: int
    negatives: tuple[int, ...]
    starts: tuple[int, ...]

    @property
    def lengths(self) -> list[int]:
        """Lengths of all texts, in the order of the sequence."""
        return [self.positive, *self.negatives]


Correction = Callable[[nn.Module, Texts, ExitStack], Texts]
"""Changes a denoiser until the stack is closed; returns the lengths that the texts have inside the model."""


@dataclass(frozen=True)
class Family:
    """How the models of one class attend.

    Attributes:
        kind: "joint" if text and image attend together, "cross" if the image attends to the text.
        corrections: Changes that keep each text to itself during a call.
        image_first: Returns whether the image precedes the text in joint attention.
        counts_image: Whether joint attention is recognised by its exact length, because the image also attends to
            itself alone.
        other_lengths: Lengths of other conditions that the image attends to in the same way as to the text.
        refuses: Returns why a call with these conditions cannot be guided, or "" if it can.
    """

    kind: Literal["joint", "cross"]
    corrections: tuple[Correction, ...] = ()
    image_first: Callable[[nn.Module], bool] = lambda denoiser: False  # noqa: ARG005
    counts_image: bool = False
    other_lengths: tuple[int, ...] = ()
    refuses: Callable[[Options], str] = lambda conds: ""  # noqa: ARG005

    def role(self, denoiser: nn.Module) -> Role:
        """Return how the attention layers that see the text are laid out."""
        if self.kind == "cross":
            return Role("cross")
        return Role("joint", image="first" if self.image_first(denoiser) else "last")

    def spans(self, denoiser: nn.Module, texts: Texts, grid: Grid) -> tuple[Span, ...]:
        """Return the spans of the text, or of the whole sequence if image tokens are counted."""
        spans = [Span("positive", texts.positive)]
        spans += [Span("negative", length) for length in texts.negatives]
        if self.counts_image:
            spans.append(Span("image", grid.tokens))
            padding = padded_length(grid.tokens, denoiser) - grid.tokens
            if padding:
                spans.append(Span("shared", padding))
        return tuple(spans)

    def hidden_tokens(self, grid: Grid, text: int) -> int:
        """Return how many hidden tokens a text of this length needs so that no image has the same length.

        Cross-attention is distinguished from self-attention by the number of its keys.

        Args:
            grid: The image tokens.
            text: Tokens of all texts together.
        """
        if self.kind == "joint":
            return 0
        ambiguous_lengths = set(self.other_lengths)
        # A U-Net attends on every level of its pyramid, each half as large as the one above.
        level = grid
        while level.tokens not in ambiguous_lengths:
            ambiguous_lengths.add(level.tokens)
            level = Grid(ceil(level.height / 2), ceil(level.width / 2), level.frames)
        hidden = 0
        while text + hidden in ambiguous_lengths:
            hidden += 1
        return hidden

    @contextmanager
    def corrected(self, denoiser: nn.Module, texts: Texts) -> Iterator[Texts]:
        """Keep each text to itself within a with statement; yields the lengths that texts have inside the model."""
        with ExitStack() as undo:
            for correction in self.corrections:
                texts = correction(denoiser, texts, undo)
            yield texts


def token_grid(denoiser: nn.Module, latents: Tensor) -> Grid:
    """Return the grid of image tokens: latents (batch, channels, [frames,] height, width) cut into patches.

    Sizes that are no multiple of the patch size are rounded up, as the host pads them.
    """
    patch = getattr(denoiser, "patch_size", 1)
    patch = tuple(patch) if isinstance(patch, Sequence) else (patch, patch)
    cut_axes = latents.shape[-len(patch) :]
    uncut_axes = latents.shape[2 : -len(patch)]
    *frames, height, width = [ceil(size / side) for size, side in zip(cut_axes, patch, strict=True)]
    return Grid(height, width, prod([*uncut_axes, *frames]))


# Corrections -------------------------------------------------------------------------------------------------------


def number_each_text(embedder: str) -> Correction:
    """Return a correction for models that number text tokens: it numbers every negative as a prompt of its own.

    Args:
        embedder: Path of the submodule that takes the position ids (batch, tokens, axes).
    """

    def correction(denoiser: nn.Module, texts: Texts, undo: ExitStack) -> Texts:
        def renumber(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            del module
            ids, *more_args = args
            ids = ids.clone()
            # Some models give all text tokens the same ids, others count them: the first two show the step.
            first = ids[:, :1]
            step = ids[:, 1:2] - first if ids.shape[1] > 1 else torch.zeros_like(first)
            offset = texts.positive
            for length, start in zip(texts.negatives, texts.starts, strict=True):
                positions = torch.arange(start, start + length, device=ids.device, dtype=ids.dtype)
                ids[:, offset : offset + length] = first + step * positions[None, :, None]
                offset += length
            return (ids, *more_args)

        undo.callback(denoiser.get_submodule(embedder).register_forward_pre_hook(renumber).remove)
        return texts

    return correction


def call_for_each_text(*names: str) -> Correction:
    """Return a correction for parts whose text tokens attend to one another: it calls them once for each text.

    Tensors that run along with the text, such as its mask or its positions, are cut as the text is.

    Args:
        names: Attributes of the denoiser; if one is a list of modules, each of them is called so.
    """

    def correction(denoiser: nn.Module, texts: Texts, undo: ExitStack) -> Texts:
        for name in names:
            part = getattr(denoiser, name, None)
            modules = part if isinstance(part, nn.ModuleList) else [part]
            for module in modules:
                if module is not None:
                    _shadow_forward(module, texts.lengths, undo)
        return texts

    return correction


def _shadow_forward(module: nn.Module, lengths: list[int], undo: ExitStack) -> None:
    """Let a module's forward, whose first argument is text (batch, tokens, channels), run once for each text."""
    original = module.forward

    def forward(text: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        outs = []
        for number, text_piece in enumerate(text.split(lengths, 1)):
            args_piece = [_of_text(argument, lengths, number) for argument in args]
            kwargs_piece = {name: _of_text(argument, lengths, number) for name, argument in kwargs.items()}
            outs.append(original(text_piece, *args_piece, **kwargs_piece))
        return torch.cat(outs, 1)

    # An attribute of the instance shadows the method of its class; deleting it restores the module exactly.
    module.forward = forward
    undo.callback(delattr, module, "forward")


def _of_text(argument: Any, lengths: list[int], number: int) -> Any:
    """Return a text's piece of an argument if that is a tensor that runs along all texts, else the argument."""
    runs_along = isinstance(argument, Tensor) and argument.dim() > 1 and argument.shape[1] == sum(lengths)
    return argument.split(lengths, 1)[number] if runs_along else argument


def pad_and_place_captions(denoiser: nn.Module, texts: Texts, undo: ExitStack) -> Texts:
    """Correct Lumina 2 and Z-Image: pad each text by itself, number each from one, and leave the image in place.

    Captions may be padded to a multiple of tokens; the image is placed behind the padded caption.
    """
    padded = [padded_length(length, denoiser) for length in texts.lengths]
    positive = padded[0]
    total = sum(padded)
    is_first_call = True

    def pad(module: nn.Module, args: object, out: Tensor) -> Tensor:
        del module, args
        padding = cast("Tensor", denoiser.cap_pad_token).to(out)[None].expand(len(out), -1, -1)
        pieces = []
        for text, before, after in zip(out.split(texts.lengths, 1), texts.lengths, padded, strict=True):
            pieces += [text, padding.expand(-1, after - before, -1)]
        return torch.cat(pieces, 1)

    def place(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # The captions' positions come first, with the image's behind them (to 0.3) or in a call of their own (since).
        # Which of the two it is must not be read from values: compiled code would be recompiled for each.
        del module
        nonlocal is_first_call
        ids, *more_args = args
        ids = ids.clone()
        offset = 0
        if is_first_call:
            is_first_call = False
            for length in padded:
                ids[:, offset : offset + length] = ids[:, :length]
                offset += length
        # A view: the image's first coordinate, 0 for tokens that pad the image.
        image = ids[:, offset:, 0]
        image -= torch.where(image >= total, total - positive, 0).to(ids.dtype)
        return (ids, *more_args)

    if padded != texts.lengths:
        undo.callback(denoiser.get_submodule("cap_embedder").register_forward_hook(pad).remove)
    undo.callback(denoiser.get_submodule("rope_embedder").register_forward_pre_hook(place).remove)
    return Texts(positive, tuple(padded[1:]), texts.starts)


def padded_length(tokens: int, denoiser: nn.Module) -> int:
    """Return a number of tokens rounded up to the multiple that a model pads to, if it does."""
    return tokens + -tokens % (getattr(denoiser, "pad_tokens_multiple", None) or 1)


# The table ---------------------------------------------------------------------------------------------------------


def _hunyuan_image_first(denoiser: nn.Module) -> bool:
    """Return whether HunyuanVideo's blocks have the image first, as they did until a release of late 2025."""
    return bool(getattr(denoiser.get_submodule("double_blocks.0"), "flipped_img_txt", False))


def _refuse_more_tokens(*names: str) -> Callable[[Options], str]:
    """Return a check for conditions that add tokens to the sequence of text and image."""

    def refuses(conds: Options) -> str:
        present = [name for name in names if conds.get(name) is not None and len(conds[name])]
        if not present:
            return ""
        return f"its condition {' and '.join(present)} adds tokens to those of text and image"

    return refuses


_NUMBERED = Family("joint", (number_each_text("pe_embedder"),))
_CLIP_VISION = 257
"""Tokens of an image encoded by CLIP, which Wan's image-to-video models attend to beside the text."""
_WAN = Family("cross", other_lengths=(_CLIP_VISION, 2 * _CLIP_VISION))

FAMILIES: Mapping[str, Family] = {
    "OpenAISignatureMMDITWrapper": Family("joint", (call_for_each_text("context_processor"),), counts_image=True),
    "Flux": _NUMBERED,
    "Chroma": _NUMBERED,
    "QwenImageTransformer2DModel": _NUMBERED,
    "HunyuanVideo": Family(
        "joint",
        (call_for_each_text("txt_in"),),
        image_first=_hunyuan_image_first,
        refuses=_refuse_more_tokens("txt_byt5", "clip_fea", "ref_latent"),
    ),
    "SingleStreamDiT": Family("joint", (call_for_each_text("txtfusion"),)),
    "NextDiT": Family(
        "joint",
        (pad_and_place_captions, call_for_each_text("context_refiner")),
        counts_image=True,
        refuses=_refuse_more_tokens("ref_latents", "ref_contexts", "siglip_feats"),
    ),
    "WanModel": _WAN,
    "VaceWanModel": _WAN,
    "LTXVModel": Family("cross"),
    "UNetModel": Family("cross"),
}
"""Facts by the class's name, which is stable while modules move between releases of the host."""

_UNREACHABLE = "its attention does not pass the host's options on, so nothing can replace it"
_SEVERAL_TEXTS = "it reads its prompt in several encoders whose tokens enter at different places"
_WITH_SOUND = "its audio is a second stream with its own text"
_NOT_SHOWN = "guidance has not been shown to be exact on it yet"

REFUSED: Mapping[str, str] = {
    "PixArtMS": _UNREACHABLE,
    "HunYuanDiT": _UNREACHABLE,
    "ErnieImageModel": _UNREACHABLE,
    "HiDreamImageTransformer2DModel": _SEVERAL_TEXTS,
    "LTXAVModel": _WITH_SOUND,
    "AnimateWanModel": "its face adapter attends out of reach of the host's options",
    "CausalWanModel": "it keeps keys and values of the text from one call to the next",
    "StageB": "Stable Cascade's text is one of several conditions in one sequence",
    "StageC": "Stable Cascade's text is one of several conditions in one sequence",
}
"""Reasons why some classes cannot be guided."""


def family_of(denoiser: nn.Module) -> Family:
    """Return the facts of a model.

    Raises:
        UnsupportedPipelineError: The model is not in the table; the message says why.
    """
    name = type(denoiser).__name__
    if name in FAMILIES:
        return FAMILIES[name]
    raise UnsupportedPipelineError(
        f"{name} cannot be guided: {REFUSED.get(name, _NOT_SHOWN)}. Models that can: {', '.join(FAMILIES)}"
    )
