"""The losses of the training stages, and the sampler with the noise levels that the student learns to step between."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from vsf.tiny.training.autoencoder import SPREAD, Autoencoder, Latents, Pixels
from vsf.tiny.training.denoiser import Denoiser

SHIFT = 1.5
SHIFT_TERMINAL = 0.1
"""Settings of the scheduler: few steps end at sigma .1, where stock spacing would spend the last one on .001."""
DECODER_NOISE = 0.08
"""Noise on the latents the decoder is trained on, relative to their spread: generated latents are not perfect."""
TextVariants = Int[Tensor, "batch variants tokens"]


def autoencoder_loss(
    autoencoder: Autoencoder, pixels: Pixels, generator: torch.Generator, *, train_code: bool = True
) -> Float[Tensor, ""]:
    """Return the reconstruction error of pixels and of the differences between neighbours.

    Args:
        autoencoder: Encodes and decodes the pixels.
        pixels: Pixels from -1 to 1.
        generator: Draws the noise on the latents.
        train_code: Whether the encoder learns too; this adds the deviation of each channel from mean 0 and `SPREAD`.
    """
    with torch.set_grad_enabled(train_code):
        latents = autoencoder.encoder(pixels)
    noise = torch.randn(latents.shape, generator=generator, device=latents.device)
    decoded = autoencoder.decoder(latents + DECODER_NOISE * SPREAD * noise).float()
    edges = sum(F.l1_loss(decoded.diff(dim=dim), pixels.diff(dim=dim)) for dim in (-1, -2))
    loss = F.l1_loss(decoded, pixels) + F.mse_loss(decoded, pixels) + 0.5 * edges
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
    # Kept off 0 and 1, where the inverse error function is infinite.
    quantiles = ((torch.arange(count, device=device) + offsets) / count).clamp(1e-5, 1 - 1e-5)
    return torch.sigmoid(mean + spread * math.sqrt(2) * torch.erfinv(2 * quantiles - 1))


def mix(latents: Latents, noise: Latents, sigma: Float[Tensor, " batch"]) -> Latents:
    """Return noisy latents: a fraction ``sigma`` of the straight way from latents to noise."""
    return torch.lerp(latents, noise, sigma[:, None, None, None])


def flow_matching_loss(
    denoiser: Denoiser,
    latents: Latents,
    tokens: Int[Tensor, "batch tokens"],
    empty: Int[Tensor, " tokens"],
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Return the flow-matching error (Lipman et al., arXiv:2210.02747).

    A tenth of the captions is dropped, so that guidance can be used; a quarter comes without padding and filler rows,
    as in a negative prompt's own stream.

    Args:
        denoiser: Predicts the velocity.
        latents: Latents of images.
        tokens: Their captions.
        empty: The empty caption.
        generator: Draws which captions are dropped or bare, sigmas and noise.
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

    @torch.no_grad()
    def velocity(
        self, teacher: Denoiser, latents: Latents, sigma: Tensor, texts: TextVariants, empty: Int[Tensor, " tokens"]
    ) -> Latents:
        """Return the pushed velocity; ``texts`` are captions as written, without parts, with essential parts."""
        plain = teacher(latents, sigma, texts[:, 0]).float()
        pushes = (
            (self.guidance_scale - 1, empty.expand(len(latents), -1)),
            (self.part_scale, texts[:, 1]),
            (self.essential_scale, texts[:, 2]),
        )
        pushed = plain
        for scale, tokens in pushes:
            # A scale of zero saves a call of the teacher.
            if scale:
                pushed = pushed + scale * (plain - teacher(latents, sigma, tokens).float())
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
    """Return how far one step of the student lands from ``substeps`` of the guide (Salimans & Ho, arXiv:2202.00512)."""
    device = latents.device
    # Four steps twice and eight once, so that half of the choices are steps of a run of four.
    steps = torch.cat([_steps(4), _steps(4), _steps(8)]).to(device)
    chosen = torch.randint(len(steps), (len(latents),), generator=generator, device=device)
    start, end = steps[chosen].unbind(1)
    mixed = mix(latents, torch.randn(latents.shape, generator=generator, device=device), start)
    landed = mixed
    with torch.no_grad():
        for substep in range(substeps):
            sigma = torch.lerp(start, end, substep / substeps)
            stride = ((end - start) / substeps)[:, None, None, None]
            landed = landed + stride * guide(landed, sigma, tokens).float()
    # The constant velocity of a single step from the same start to the same end.
    target = (mixed - landed) / (start - end)[:, None, None, None]
    return F.mse_loss(student(mixed, start, tokens).float(), target)


def step_grid(steps: int) -> Float[Tensor, " sigmas"]:
    """Return the sigmas that the exported scheduler visits in this many steps, the final zero included."""
    # The scheduler shifts its lowest sigma once when it is built, and again with all others for each run.
    low = _shifted(np.array([0.001]))[0]
    sigmas = _shifted(np.linspace(1.0, low, steps))
    sigmas = 1 - (1 - sigmas) * (1 - SHIFT_TERMINAL) / (1 - sigmas[-1])
    return torch.tensor([*sigmas, 0.0], dtype=torch.float32)


def _steps(count: int) -> Float[Tensor, "steps 2"]:
    """Return the start and end sigmas of each step of a run."""
    sigmas = step_grid(count)
    return torch.stack([sigmas[:-1], sigmas[1:]], 1)


def _shifted(sigmas: np.ndarray) -> np.ndarray:
    return SHIFT * sigmas / (1 + (SHIFT - 1) * sigmas)


@torch.no_grad()
def sample(velocity: Callable[[Latents, Tensor], Tensor], steps: int, noise: Latents) -> Latents:
    """Return the latents that Euler steps from noise lead to.

    Args:
        velocity: Maps latents and sigmas (batch,) to the velocity.
        steps: Number of steps.
        noise: Where to start.
    """
    latents = noise
    sigmas: list[float] = step_grid(steps).tolist()
    for sigma, next_sigma in pairwise(sigmas):
        current = latents.new_full((len(latents),), sigma)
        latents = latents + (next_sigma - sigma) * velocity(latents, current).float()
    return latents
