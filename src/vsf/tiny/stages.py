"""The losses of the training stages: autoencoder, teacher, student."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from vsf.tiny.collapse_padding import FILLER_ROWS
from vsf.tiny.model import encode_text


def decoder_loss(
    decoder: nn.Module,
    pixels: Float[Tensor, "batch 3 size size"],
    latents: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, ""]:
    """Return the error of pixels and of the differences between neighbours, which are the edges."""
    drawn = decoder(latents)
    edges = sum(F.l1_loss(drawn.diff(dim=dim), pixels.diff(dim=dim)) for dim in (-1, -2))
    return F.l1_loss(drawn, pixels) + F.mse_loss(drawn, pixels) + 0.5 * edges


class Denoiser(nn.Module):
    """The networks that teacher and student train together: the transformer and its two text encoders."""

    def __init__(self, transformer: SD3Transformer2DModel, encoders: Sequence[CLIPTextModelWithProjection]):
        super().__init__()
        self.transformer = transformer
        self.encoders = nn.ModuleList(encoders)

    def forward(
        self,
        latents: Float[Tensor, "batch channels height width"],
        sigma: Float[Tensor, " batch"],
        tokens: Int[Tensor, "batch tokens"],
        bare: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch channels height width"]:
        """Return the velocity, noise minus image, for the token rows that a plain SD3 call produces.

        That call appends 256 equal filler rows. Equal rows stay equal through every block and weigh as one whose key
        has ln 256 added, so one row stands for all. ``bare`` marks the tokens that count when there are neither filler
        nor padding rows: the situation of a negative prompt's own stream.
        """
        rows, pooled = encode_text(self.encoders, tokens)
        bias = rows.new_zeros(len(rows), 1, 1, latents[0, 0].numel() + rows.shape[1])
        if bare is None:
            rows = F.pad(rows, (0, 0, 0, 1))
            bias = F.pad(bias, (0, 1), value=math.log(FILLER_ROWS))
        else:
            # Far below any logit, and still finite in half precision.
            bias[..., -rows.shape[1] :].masked_fill_(~bare[:, None, None], -1e4)
        with _KeyBias(bias):
            return self.transformer(latents, rows, pooled, sigma * 1000, return_dict=False)[0]


class _KeyBias(TorchFunctionMode):
    """Adds a bias to the keys of every attention call inside, as diffusers' processors take none."""

    def __init__(self, bias: Float[Tensor, "batch 1 1 keys"]):
        super().__init__()
        self.bias = bias

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is F.scaled_dot_product_attention:
            kwargs = {**(kwargs or {}), "attn_mask": self.bias}
        return function(*args, **(kwargs or {}))


def tokenize(
    words: CLIPTokenizer, captions: list[str]
) -> tuple[Int[Tensor, "batch tokens"], Bool[Tensor, "batch tokens"]]:
    """Return padded token ids, and which of them are not padding."""
    batch = words(captions, padding="max_length", truncation=True, return_tensors="pt")
    return batch.input_ids, batch.attention_mask.bool()


def teacher_loss(
    denoiser: Denoiser,
    latents: Float[Tensor, "batch channels height width"],
    text: tuple[Int[Tensor, "batch tokens"], Bool[Tensor, "batch tokens"]],
    bare: bool,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Return the flow-matching error (Lipman et al., arXiv:2210.02747) at logit-normal times (arXiv:2403.03206)."""
    tokens, real = text
    device = latents.device
    sigma = torch.sigmoid(torch.randn(len(latents), generator=generator) * 1.2 + 0.3).to(device)
    noise = torch.randn(latents.shape, generator=generator).to(device)
    mixed = torch.lerp(latents, noise, sigma[:, None, None, None])
    velocity = denoiser(mixed, sigma, tokens, real if bare else None)
    return F.mse_loss(velocity, noise - latents)


@dataclass(frozen=True)
class Push:
    """Scales that push the teacher's velocity away from those for other captions (Liu et al., arXiv:2206.01714).

    Attributes:
        guidance_scale: Away from the empty caption: classifier-free guidance as usual; 1 is none.
        part_scale: Away from the caption without parts, so that a part that is named is drawn.
        essential_scale: Away from the caption that also names all essential parts. The usual guidance draws those more
            often than scenes have them; this takes it back, and objects stay as clear as guidance makes them.
    """

    guidance_scale: float
    part_scale: float
    essential_scale: float

    def velocity(
        self, teacher: Denoiser, latents: Tensor, sigma: Float[Tensor, " batch"], texts: Sequence[Tensor]
    ) -> Float[Tensor, "batch channels height width"]:
        """Return the pushed velocity; `texts` are captions, empty ones, without parts, with essential parts."""
        count = len(texts)
        velocities = teacher(torch.cat([latents] * count), torch.cat([sigma] * count), torch.cat([*texts]))
        conditional, *alternatives = velocities.chunk(count)
        scales = (self.guidance_scale - 1, self.part_scale, self.essential_scale)
        pushed: Tensor = conditional
        for scale, alternative in zip(scales, alternatives, strict=True):
            pushed = pushed + scale * (conditional - alternative)
        return pushed


@torch.no_grad()
def guided_walk(
    teacher: Denoiser,
    latents: Float[Tensor, "batch channels height width"],
    sigmas: Float[Tensor, "substeps batch"],
    texts: Sequence[Int[Tensor, "batch tokens"]],
    push: Push,
) -> Float[Tensor, "batch channels height width"]:
    """Return the latents after Euler steps of the pushed teacher on ``sigmas``; for ``texts`` see `Push.velocity`."""
    for sigma, next_sigma in pairwise(sigmas):
        velocity = push.velocity(teacher, latents, sigma, texts)
        latents = latents + (next_sigma - sigma)[:, None, None, None] * velocity
    return latents


def student_loss(
    models: tuple[Denoiser, Denoiser],
    latents: Float[Tensor, "batch channels height width"],
    texts: Sequence[Int[Tensor, "batch tokens"]],
    walk: Float[Tensor, "substeps batch"],
    push: Push,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Return how far a step of the student lands from several guided ones of the teacher; ``models`` are these two.

    Progressive distillation (Salimans & Ho, arXiv:2202.00512) with the guidance distilled in (Meng et al.,
    arXiv:2210.03142). ``walk`` holds the teacher's sigmas from the start of the student's step to its end.
    """
    student, teacher = models
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    mixed = torch.lerp(latents, noise, walk[0][:, None, None, None])
    landed = guided_walk(teacher, mixed, walk, texts, push)
    # The constant velocity of a single step from the same start to the same end.
    target = (mixed - landed) / (walk[0] - walk[-1])[:, None, None, None]
    return F.mse_loss(student(mixed, walk[0], texts[0]), target)


def step_grid(scheduler: FlowMatchEulerDiscreteScheduler, steps: int) -> Float[Tensor, " sigmas"]:
    """Return the sigmas that a pipeline with this scheduler visits in ``steps`` steps, the final zero included."""
    scheduler.set_timesteps(steps)
    return scheduler.sigmas.clone()


def random_walks(
    grids: Sequence[Float[Tensor, " sigmas"]], count: int, substeps: int, rng: random.Random
) -> Float[Tensor, "substeps batch"]:
    """Return for each of ``count`` samples one random step of a random grid, cut into ``substeps`` equal parts."""
    ends: list[tuple[float, float]] = []
    for _ in range(count):
        grid = rng.choice(grids)
        index = rng.randrange(len(grid) - 1)
        ends.append((float(grid[index]), float(grid[index + 1])))
    start, end = torch.tensor(ends).unbind(1)
    return torch.stack([torch.lerp(start, end, part / substeps) for part in range(substeps + 1)])
