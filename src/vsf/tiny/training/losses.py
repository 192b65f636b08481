"""What each stage of training minimises."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from vsf.tiny.training.autoencoder import SPREAD, Autoencoder, Latents, Pixels
from vsf.tiny.training.denoiser import Denoiser

SHIFT, SHIFT_TERMINAL = 1.5, 0.1
"""The scheduler's: few steps end at sigma .1, where stock spacing would spend the last one on .001."""
DISTURBANCE = 0.08
"""Noise on the latents that the decoder is trained on, in shares of their spread: generated ones are not perfect."""
TextVariants = Int[Tensor, "batch variants tokens"]


def autoencoder_loss(
    autoencoder: Autoencoder, pixels: Pixels, generator: torch.Generator, *, train_code: bool = True
) -> Float[Tensor, ""]:
    """Return the error of pixels and of their steps to the neighbours, and what holds each channel to its spread."""
    with torch.set_grad_enabled(train_code):
        latents = autoencoder.encoder(pixels)
    noise = torch.randn(latents.shape, generator=generator, device=latents.device)
    drawn = autoencoder.decoder(latents + DISTURBANCE * SPREAD * noise).float()
    edges = sum(F.l1_loss(drawn.diff(dim=dim), pixels.diff(dim=dim)) for dim in (-1, -2))
    loss = F.l1_loss(drawn, pixels) + F.mse_loss(drawn, pixels) + 0.5 * edges
    if not train_code:
        return loss
    code = latents.float() / SPREAD
    off_centre = code.mean((0, 2, 3)).square().mean() + (code.std((0, 2, 3)) - 1).square().mean()
    return loss + 0.1 * off_centre


def logit_normal(
    count: int, generator: torch.Generator, device: torch.device, mean: float = 0.3, spread: float = 1.2
) -> Float[Tensor, " count"]:
    """Return logit-normal times (Esser et al., arXiv:2403.03206), one from each of ``count`` slices of equal weight."""
    offsets = torch.rand(count, generator=generator, device=device)
    quantiles = ((torch.arange(count, device=device) + offsets) / count).clamp(1e-5, 1 - 1e-5)
    return torch.sigmoid(mean + spread * math.sqrt(2) * torch.erfinv(2 * quantiles - 1))


def mix(latents: Latents, noise: Latents, sigma: Float[Tensor, " batch"]) -> Latents:
    """Return latents on the straight way to noise."""
    return torch.lerp(latents, noise, sigma[:, None, None, None])


def flow_matching_loss(
    denoiser: Denoiser,
    latents: Latents,
    tokens: Int[Tensor, "batch tokens"],
    empty: Int[Tensor, " tokens"],
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Return the flow-matching error (Lipman et al., arXiv:2210.02747).

    A tenth of the captions is dropped, so that guidance can be used; a quarter stands without padding and filler rows,
    which is what a negative prompt's own stream looks like.
    """
    device = latents.device
    dropped = torch.rand(len(latents), 1, generator=generator, device=device) < 0.1
    bare = torch.rand(len(latents), generator=generator, device=device) < 0.25
    sigma = logit_normal(len(latents), generator, device)
    noise = torch.randn(latents.shape, generator=generator, device=device)
    velocity = denoiser(mix(latents, noise, sigma), sigma, torch.where(dropped, empty, tokens), bare)
    return F.mse_loss(velocity.float(), noise - latents)


@dataclass(frozen=True)
class Push:
    """How far the teacher's velocity is pushed away from that of other captions (Liu et al., arXiv:2206.01714).

    Attributes:
        guidance_scale: From the empty caption: classifier-free guidance as usual; 1 is none.
        part_scale: From the caption without parts, so that a part that is named is drawn.
        essential_scale: From the caption that also names all essential parts. The usual guidance draws those more often
            than they are there in the world; this takes it back, and objects stay as clear as guidance makes them.
    """

    guidance_scale: float
    part_scale: float
    essential_scale: float

    @torch.no_grad()
    def velocity(
        self, teacher: Denoiser, latents: Latents, sigma: Tensor, texts: TextVariants, empty: Int[Tensor, " tokens"]
    ) -> Latents:
        """Return the pushed velocity; ``texts`` are captions as told, without parts, with essential parts."""
        plain = teacher(latents, sigma, texts[:, 0]).float()
        others = empty.expand(len(latents), -1), texts[:, 1], texts[:, 2]
        pushed = plain
        for scale, other in zip((self.guidance_scale - 1, self.part_scale, self.essential_scale), others, strict=True):
            if scale:
                pushed = pushed + scale * (plain - teacher(latents, sigma, other).float())
        return pushed


def guide_loss(
    guide: Denoiser,
    teacher: Denoiser,
    latents: Latents,
    texts: TextVariants,
    empty: Tensor,
    push: Push,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Return how far one call of the guide is from the pushed teacher (Meng et al., arXiv:2210.03142)."""
    sigma = logit_normal(len(latents), generator, latents.device)
    noise = torch.randn(latents.shape, generator=generator, device=latents.device)
    mixed = mix(latents, noise, sigma)
    target = push.velocity(teacher, mixed, sigma, texts, empty)
    return F.mse_loss(guide(mixed, sigma, texts[:, 0]).float(), target)


def student_loss(
    student: Denoiser,
    guide: Denoiser,
    latents: Latents,
    tokens: Int[Tensor, "batch tokens"],
    substeps: int,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Return how far one step of the student lands from several of the guide (Salimans & Ho, arXiv:2202.00512)."""
    device = latents.device
    steps = torch.cat([torch.stack([grid[:-1], grid[1:]], 1) for grid in map(step_grid, (4, 4, 8))]).to(device)
    chosen = torch.randint(len(steps), (len(latents),), generator=generator, device=device)
    start, end = steps[chosen].unbind(1)
    mixed = mix(latents, torch.randn(latents.shape, generator=generator, device=device), start)
    landed = mixed
    with torch.no_grad():
        for part in range(substeps):
            here = torch.lerp(start, end, part / substeps)
            stride = ((end - start) / substeps)[:, None, None, None]
            landed = landed + stride * guide(landed, here, tokens).float()
    target = (mixed - landed) / (start - end)[:, None, None, None]
    return F.mse_loss(student(mixed, start, tokens).float(), target)


def step_grid(steps: int) -> Float[Tensor, " sigmas"]:
    """Return the sigmas that the exported scheduler visits in so many steps, the final zero included."""
    low = _shifted(np.array([0.001]))[0]
    sigmas = _shifted(np.linspace(1.0, low, steps))
    sigmas = 1 - (1 - sigmas) * (1 - SHIFT_TERMINAL) / (1 - sigmas[-1])
    return torch.tensor([*sigmas, 0.0], dtype=torch.float32)


def _shifted(sigmas: np.ndarray) -> np.ndarray:
    return SHIFT * sigmas / (1 + (SHIFT - 1) * sigmas)


@torch.no_grad()
def sample(velocity: Callable[[Latents, Tensor], Tensor], steps: int, noise: Latents) -> Latents:
    """Return latents after so many Euler steps from noise."""
    latents = noise
    sigmas: Sequence[float] = step_grid(steps).tolist()
    for here, there in pairwise(sigmas):
        latents = latents + (there - here) * velocity(latents, latents.new_full((len(latents),), here)).float()
    return latents
