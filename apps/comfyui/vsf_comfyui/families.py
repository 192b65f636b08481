"""Facts about ComfyUI's models: where the text stands in their attention, and which parts look at all of it.

A negative is put behind the positive text. Most of a model treats every text token alike, but some parts number the
tokens, fill the text up or let it attend to itself. The corrections here make those parts treat each text as if it
stood alone, for as long as one model call lasts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import ceil, prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vsf.attention.layout import Span
from vsf.controls.grid import Grid
from vsf.errors import UnsupportedPipelineError
from vsf.hosting import Role


@dataclass(frozen=True)
class Texts:
    """Lengths of the texts of one model call.

    positive: tokens of the positive text. negatives: tokens of each negative. starts: where the first real token of
    each negative stands in a prompt of its own, behind padding that was cut off.
    """

    positive: int
    negatives: tuple[int, ...]
    starts: tuple[int, ...]

    @property
    def lengths(self) -> list[int]:
        """Lengths of all texts, in the order in which they stand."""
        return [self.positive, *self.negatives]


Correction = Callable[[Any, Texts, ExitStack], Texts]
"""Changes a denoiser until the stack is closed; returns the lengths that the texts have inside of it."""


@dataclass(frozen=True)
class Family:
    """How the models of one class attend.

    kind: "joint" where text and image attend together, "cross" where image attends to text.
    corrections: what keeps each text to itself during a call.
    image_first: whether the image stands before the text in joint attention.
    counts_image: whether joint attention is told by its exact length, because the image also attends to itself alone.
    other_lengths: lengths of other conditions that the image attends to in the same way as to the text.
    refuses: returns why a call with these conditions cannot be guided, "" where it can.
    """

    kind: Literal["joint", "cross"]
    corrections: tuple[Correction, ...] = ()
    image_first: Callable[[Any], bool] = lambda denoiser: False  # noqa: ARG005
    counts_image: bool = False
    other_lengths: tuple[int, ...] = ()
    refuses: Callable[[Mapping[str, Any]], str] = lambda conds: ""  # noqa: ARG005

    def role(self, denoiser: Any) -> Role:
        """Return how the attention layers that see the text do so."""
        if self.kind == "cross":
            return Role("cross")
        return Role("joint", image="first" if self.image_first(denoiser) else "last")

    def spans(self, denoiser: Any, texts: Texts, grid: Grid) -> tuple[Span, ...]:
        """Return the spans of the text, or of the whole sequence where its image tokens are counted."""
        text = (Span("positive", texts.positive), *(Span("negative", length) for length in texts.negatives))
        if not self.counts_image:
            return text
        filling = filled_up(grid.tokens, denoiser) - grid.tokens
        return (*text, Span("image", grid.tokens), *([Span("shared", filling)] if filling else []))

    def hidden_tokens(self, grid: Grid, text: int) -> int:
        """Return how many hidden tokens a text of this length needs so that no image has the same length.

        Cross-attention is told from self-attention by the number of its keys.
        """
        if self.kind == "joint":
            return 0
        taken = {*self.other_lengths}
        level = grid
        while level.tokens not in taken:
            taken.add(level.tokens)
            level = Grid(ceil(level.height / 2), ceil(level.width / 2), level.frames)
        hidden = 0
        while text + hidden in taken:
            hidden += 1
        return hidden

    @contextmanager
    def corrected(self, denoiser: Any, texts: Texts) -> Iterator[Texts]:
        """Keep each text to itself while a block runs; yields the lengths inside of the model."""
        with ExitStack() as undo:
            for correction in self.corrections:
                texts = correction(denoiser, texts, undo)
            yield texts


def token_grid(denoiser: Any, latents: Tensor) -> Grid:
    """Return how image tokens lie in the picture: latents (batch, channels, [frames,] height, width) cut into patches.

    Latents that do not divide are filled up, as the host does.
    """
    patch = getattr(denoiser, "patch_size", 1)
    patch = tuple(patch) if isinstance(patch, Sequence) else (patch, patch)
    sizes = [ceil(size / by) for size, by in zip(latents.shape[-len(patch) :], patch, strict=True)]
    uncut = latents.shape[2 : -len(patch)]
    *frames, height, width = sizes
    return Grid(height, width, prod([*uncut, *frames]))


# Corrections -------------------------------------------------------------------------------------------------------


def number_each_text(embedder: str) -> Correction:
    """Return a correction for models that number text tokens: every negative is numbered as a prompt of its own."""

    def correction(denoiser: Any, texts: Texts, undo: ExitStack) -> Texts:
        def renumber(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            del module
            ids, *others = args
            ids = ids.clone()
            first = ids[:, :1]
            step = ids[:, 1:2] - first if ids.shape[1] > 1 else torch.zeros_like(first)
            at = texts.positive
            for length, start in zip(texts.negatives, texts.starts, strict=True):
                places = torch.arange(start, start + length, device=ids.device, dtype=ids.dtype)
                ids[:, at : at + length] = first + step * places[None, :, None]
                at += length
            return (ids, *others)

        undo.callback(denoiser.get_submodule(embedder).register_forward_pre_hook(renumber).remove)
        return texts

    return correction


def call_for_each_text(*names: str) -> Correction:
    """Return a correction for parts whose text tokens attend to one another: they are called once for each text.

    names: attributes of the denoiser; of a list of modules every one counts. Tensors that run along with the text,
    such as its mask or its positions, are cut as the text is.
    """

    def correction(denoiser: Any, texts: Texts, undo: ExitStack) -> Texts:
        for name in names:
            part = getattr(denoiser, name, None)
            for module in part if isinstance(part, nn.ModuleList) else [part]:
                if module is not None:
                    _shadow_forward(module, texts.lengths, undo)
        return texts

    return correction


def _shadow_forward(module: nn.Module, lengths: list[int], undo: ExitStack) -> None:
    """Let a module's forward, (batch, tokens, channels) first, run once for each text."""
    original = module.forward

    def forward(text: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        cut_args = [_for_each_text(argument, lengths) for argument in args]
        cut_kwargs = {name: _for_each_text(argument, lengths) for name, argument in kwargs.items()}
        outs = []
        for number, piece in enumerate(text.split(lengths, 1)):
            own_args = [pieces[number] for pieces in cut_args]
            own_kwargs = {name: pieces[number] for name, pieces in cut_kwargs.items()}
            outs.append(original(piece, *own_args, **own_kwargs))
        return torch.cat(outs, 1)

    module.forward = forward
    undo.callback(delattr, module, "forward")


def _for_each_text(argument: Any, lengths: list[int]) -> Sequence[Any]:
    """Return an argument for each text: a tensor along all of them in pieces, anything else as it is."""
    runs_along = isinstance(argument, Tensor) and argument.dim() > 1 and argument.shape[1] == sum(lengths)
    return argument.split(lengths, 1) if runs_along else [argument] * len(lengths)


def fill_and_place_captions(denoiser: Any, texts: Texts, undo: ExitStack) -> Texts:
    """Correct Lumina 2 and Z-Image: fill every text up by itself, number each from one, and leave the image in place.

    Captions may be filled up to a multiple of tokens; the image is placed behind the filled caption.
    """
    filled = [filled_up(length, denoiser) for length in texts.lengths]
    positive, total = filled[0], sum(filled)
    is_first_call = True

    def fill(module: nn.Module, args: Any, out: Tensor) -> Tensor:
        del module, args
        filler = denoiser.cap_pad_token.to(out)[None].expand(len(out), -1, -1)
        pieces = []
        for piece, before, after in zip(out.split(texts.lengths, 1), texts.lengths, filled, strict=True):
            pieces += [piece, filler.expand(-1, after - before, -1)]
        return torch.cat(pieces, 1)

    def place(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        # The captions' positions come first, with the image's behind them (to 0.3) or in a call of their own (since).
        # Which it is must not be told by values: compiled code would be made anew for each.
        del module
        nonlocal is_first_call
        ids, *others = args
        ids = ids.clone()
        at = 0
        if is_first_call:
            is_first_call = False
            for length in filled:
                ids[:, at : at + length] = ids[:, :length]
                at += length
        image = ids[:, at:, 0]
        image -= torch.where(image >= total, total - positive, 0).to(ids.dtype)  # what fills an image up stands at 0
        return (ids, *others)

    if filled != texts.lengths:
        undo.callback(denoiser.cap_embedder.register_forward_hook(fill).remove)
    undo.callback(denoiser.rope_embedder.register_forward_pre_hook(place).remove)
    return Texts(positive, tuple(filled[1:]), texts.starts)


def filled_up(tokens: int, denoiser: Any) -> int:
    """Return how many tokens become of these where a model fills up to a multiple."""
    return tokens + -tokens % (getattr(denoiser, "pad_tokens_multiple", None) or 1)


# The table ---------------------------------------------------------------------------------------------------------


def _hunyuan_image_first(denoiser: Any) -> bool:
    """Tell whether HunyuanVideo's blocks have the image first, as they did until some release of late 2025."""
    return bool(getattr(denoiser.double_blocks[0], "flipped_img_txt", False))


def _refuse_more_tokens(*names: str) -> Callable[[Mapping[str, Any]], str]:
    """Return a check for conditions that put further tokens into the sequence of text and image."""

    def refuses(conds: Mapping[str, Any]) -> str:
        given = [name for name in names if conds.get(name) is not None and len(conds[name])]
        return (
            f"its condition {' and '.join(given)} puts further tokens beside those of text and image" if given else ""
        )

    return refuses


_NUMBERED = Family("joint", (number_each_text("pe_embedder"),))
_CLIP_VISION = 257
"""Tokens of an image in CLIP's eyes, to which Wan's image-to-video models attend beside the text."""
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
        (fill_and_place_captions, call_for_each_text("context_refiner")),
        counts_image=True,
        refuses=_refuse_more_tokens("ref_latents", "ref_contexts", "siglip_feats"),
    ),
    "WanModel": _WAN,
    "VaceWanModel": _WAN,
    "LTXVModel": Family("cross"),
    "UNetModel": Family("cross"),
}
"""Facts by the name of the class, which stays while modules move between releases of the host."""

_UNREACHABLE = "its attention does not pass the host's options on, so that nothing can stand in for it"
_SEVERAL_TEXTS = "it reads its prompt in several encoders whose tokens enter at different places"
_WITH_SOUND = "its sound is a second stream with a text of its own"
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


def family_of(denoiser: Any) -> Family:
    """Return the facts of a model. Raises UnsupportedPipelineError that says why for one that is not in the table."""
    name = type(denoiser).__name__
    if name in FAMILIES:
        return FAMILIES[name]
    raise UnsupportedPipelineError(
        f"{name} cannot be guided: {REFUSED.get(name, _NOT_SHOWN)}. Models that can: {', '.join(FAMILIES)}"
    )
