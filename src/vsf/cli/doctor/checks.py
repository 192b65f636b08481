"""The self-checks of `vsf doctor`: the core against float64, and guided runs of the embedded model."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vsf import patch
from vsf.attention.layout import Span, TokenLayout
from vsf.guidance import HostCall, ValueSignFlip, guided_attention

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

IMAGE_TOKENS = 64  # these and the next two could be any numbers
POSITIVE_TOKENS = 12
NEGATIVE_TOKENS = 7
SCALE = 1.5
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
PROMPT = "a red car on snow"
NEGATIVE = "wheels"


class CheckResult(NamedTuple):
    """The outcome of a check."""

    passed: bool
    detail: str


def core_against_float64(device: str, dtype: torch.dtype) -> CheckResult:
    """Guide one random attention call and compare every row with a dense softmax in float64.

    It is exact if the error over (1 + scale) * max|value| is at most four times that of torch's own attention on the
    same inputs, or at most 1e-6.
    """
    method = ValueSignFlip(scale=SCALE, offset=-0.4)
    tokens = IMAGE_TOKENS + POSITIVE_TOKENS + NEGATIVE_TOKENS
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, 1, 4, tokens, 64, generator=generator).to(device, dtype)
    query, key, value = inputs
    layout = TokenLayout(
        (Span("image", IMAGE_TOKENS), Span("positive", POSITIVE_TOKENS), Span("negative", NEGATIVE_TOKENS))
    )
    guided = guided_attention(method, HostCall(query, key, value), layout)
    exact_query, exact_key, exact_value = inputs.cpu().double()
    largest_value = exact_value.abs().max().item()
    exact = _dense_guided(exact_query, exact_key, exact_value, method)
    error = _largest_difference(guided, exact) / (1 + SCALE) / largest_value
    plain = F.scaled_dot_product_attention(query, key, value)
    exact_plain = F.softmax(_logits(exact_query, exact_key), -1) @ exact_value
    usual_error = _largest_difference(plain, exact_plain) / largest_value
    allowed = max(4 * usual_error, 1e-6)
    return CheckResult(bool(error <= allowed), f"error {error:.1e}, allowed {allowed:.1e}")


def empty_negative_changes_nothing(pipe: DiffusionPipeline) -> CheckResult:
    """Check that an empty negative leaves the latents bit-identical."""
    plain = _latents(pipe)
    with patch.guide(pipe, ""):
        is_same = torch.equal(plain, _latents(pipe))
    return CheckResult(is_same, "latents are bit-identical" if is_same else "latents differ")


def negative_changes_something(pipe: DiffusionPipeline) -> CheckResult:
    """Check that a negative changes the latents, and that they are bit-identical again afterwards."""
    plain = _latents(pipe)
    with patch.guide(pipe, NEGATIVE) as report:
        largest_change = (plain - _latents(pipe)).abs().max().item()
    is_restored = torch.equal(plain, _latents(pipe))
    after = "gone without a trace afterwards" if is_restored else "NOT gone afterwards"
    detail = f"latents moved by {largest_change:.2g} in {report.calls} guided attention calls; {after}"
    return CheckResult(largest_change > 0 and is_restored, detail)


def _latents(pipe: DiffusionPipeline) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    output = pipe(PROMPT, num_inference_steps=2, guidance_scale=0.0, generator=generator, output_type="latent")
    latents: Tensor = output.images.clone()
    return latents


def _dense_guided(
    query: Float[Tensor, "batch heads tokens channels"],
    key: Float[Tensor, "batch heads tokens channels"],
    value: Float[Tensor, "batch heads tokens channels"],
    method: ValueSignFlip,
) -> Float[Tensor, "batch heads tokens channels"]:
    """Compute guided attention from the whole matrix of weights.

    Image rows see image, positive and sign-flipped negative; positive rows image and positive; negative rows image and
    negative.
    """
    logits = _logits(query, key)
    positive_end = IMAGE_TOKENS + POSITIVE_TOKENS
    logits[..., :IMAGE_TOKENS, positive_end:] -= method.offset
    logits[..., IMAGE_TOKENS:positive_end, positive_end:] = -torch.inf
    logits[..., positive_end:, IMAGE_TOKENS:positive_end] = -torch.inf
    weights = F.softmax(logits, -1)
    weights[..., :IMAGE_TOKENS, positive_end:] *= -SCALE
    return weights @ value


def _largest_difference(computed: Tensor, exact: Tensor) -> float:
    return (computed.cpu().double() - exact).abs().max().item()


def _logits(query: Tensor, key: Tensor) -> Tensor:
    return query @ key.mT / query.shape[-1] ** 0.5
