"""The checks behind `vsf doctor`: the core against dense float64, and guided runs of the embedded model."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vsf import patch
from vsf.attention.layout import Span, TokenLayout
from vsf.guidance import HostCall, ValueSignFlip, guided_attention

IMAGE, POSITIVE, NEGATIVE = 64, 12, 7  # tokens of the check; any numbers would do
SCALE = 1.5
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
PROMPT, ASKED_AWAY = "a red car on snow", "wheels"


class Finding(NamedTuple):
    """What a check found."""

    passed: bool
    detail: str


def devices() -> list[str]:
    """The kinds of device that torch can use here."""
    return ["cpu", *(kind for kind in ("cuda", "mps") if getattr(torch, kind).is_available())]


def core_against_float64(device: str, dtype: torch.dtype) -> Finding:
    """Guide one random attention call and compare every row with a dense softmax in float64.

    Exact means: an error over (1 + scale) * max|value| of at most four times that of torch's own attention on the same
    inputs, and never asked to be below 1e-6.
    """
    method = ValueSignFlip(scale=SCALE, offset=-0.4)
    tokens = IMAGE + POSITIVE + NEGATIVE
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(3, 1, 4, tokens, 64, generator=generator).to(device, dtype)
    query, key, value = drawn
    layout = TokenLayout((Span("image", IMAGE), Span("positive", POSITIVE), Span("negative", NEGATIVE)))
    guided = guided_attention(method, HostCall(query, key, value), layout)
    wide = drawn.cpu().double()
    reach = wide[2].abs().max().item()
    error = _largest(guided, _dense(wide[0], wide[1], wide[2], method)) / (1 + SCALE) / reach
    plain = F.scaled_dot_product_attention(query, key, value)
    usual = _largest(plain, F.softmax(_logits(wide[0], wide[1]), -1) @ wide[2]) / reach
    allowed = max(4 * usual, 1e-6)
    return Finding(bool(error <= allowed), f"error {error:.1e}, allowed {allowed:.1e}")


def empty_negative_changes_nothing(pipe: Any) -> Finding:
    """Guided by an empty negative, the model has to give the same latents to the last bit."""
    plain = _latents(pipe)
    with patch.guide(pipe, ""):
        same = torch.equal(plain, _latents(pipe))
    return Finding(same, "latents are bit-identical" if same else "latents differ")


def negative_changes_something(pipe: Any) -> Finding:
    """A negative has to move the latents, and taking the guidance off has to bring the old ones back."""
    plain = _latents(pipe)
    with patch.guide(pipe, ASKED_AWAY) as report:
        moved = (plain - _latents(pipe)).abs().max().item()
    restored = torch.equal(plain, _latents(pipe))
    after = "gone without a trace afterwards" if restored else "NOT gone afterwards"
    detail = f"latents moved by {moved:.2g} in {report.calls} guided attention calls; {after}"
    return Finding(moved > 0 and restored, detail)


def _latents(pipe: Any) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return pipe(
        PROMPT, num_inference_steps=2, guidance_scale=0.0, generator=generator, output_type="latent"
    ).images.clone()


def _dense(
    query: Float[Tensor, "batch heads tokens channels"],
    key: Float[Tensor, "batch heads tokens channels"],
    value: Float[Tensor, "batch heads tokens channels"],
    method: ValueSignFlip,
) -> Float[Tensor, "batch heads tokens channels"]:
    """The whole matrix of weights: image rows see I, P and the flipped N; positive rows I, P; negative rows I, N."""
    logits = _logits(query, key)
    text = IMAGE + POSITIVE
    logits[..., :IMAGE, text:] -= method.offset
    logits[..., IMAGE:text, text:] = -torch.inf
    logits[..., text:, IMAGE:text] = -torch.inf
    weights = F.softmax(logits, -1)
    weights[..., :IMAGE, text:] *= -SCALE
    return weights @ value


def _largest(found: Tensor, exact: Tensor) -> float:
    return (found.cpu().double() - exact).abs().max().item()


def _logits(query: Tensor, key: Tensor) -> Tensor:
    return query @ key.mT / query.shape[-1] ** 0.5
