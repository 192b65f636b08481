"""Compute the encoder in closed form: the best linear code of 8 x 8 patches, as a chain of strided convolutions.

A convolutional encoder takes hours on a CPU to find a code that principal components give in a second. The decoder has
the harder half and is trained on these latents.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderTiny
from jaxtyping import Float
from torch import Tensor, nn

PATCH = 8
CHANNELS = 3 * 4 * 4  # a quarter patch moved whole into channels


def principal_code(
    pixels: Float[Tensor, "images 3 size size"], count: int
) -> tuple[Float[Tensor, "count patch"], Float[Tensor, " patch"]]:
    """Return the ``count`` leading directions of all patches, as rows (channel, y, x), and the mean patch.

    Rows are divided by the square root of their standard deviation, so that the weak directions, which hold the
    detail, are not drowned by the strong ones; all are then scaled so that the code has about unit spread.
    """
    patches = pixels.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3 * PATCH**2)
    mean = patches.mean(0)
    covariance = (patches - mean).T @ (patches - mean) / len(patches)
    # In ascending order, so that the leading directions come last.
    power, directions = torch.linalg.eigh(covariance.double())
    power = power[-count:].flip(0)
    directions = directions[:, -count:].flip(1)
    rows = directions.T / power[:, None] ** 0.25
    return (rows / power.sqrt().mean().sqrt()).to(pixels.dtype), mean


@torch.no_grad()
def write_encoder(vae: AutoencoderTiny, pixels: Float[Tensor, "images 3 size size"]) -> None:
    """Set the encoder's weights to the principal code of these images (pixels from -1 to 1).

    Two strided convolutions move 2 x 2 neighbours into channels, the third applies the code to four of those, the
    last adds the offset. Nothing reads over the edge of a patch.
    """
    first, *moves, code, last = vae.encoder.layers
    rows, mean = principal_code(pixels, last.out_channels)
    rows = rows / vae.config.scaling_factor
    for layer in vae.encoder.layers:
        nn.init.zeros_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    # AutoencoderTiny maps pixels from -1..1 to 0..1 before the first convolution, which maps them back.
    first.weight[range(3), range(3), 1, 1] = 2.0
    first.bias[:3] = -1.0
    # Rows and columns 0 of the 3 x 3 kernels stay zero: at stride 2 they read the cell to the left or above.
    for move, channels in zip(moves, (3, 12), strict=True):
        for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
            for channel in range(channels):
                move.weight[(2 * y + x) * channels + channel, channel, 1 + y, 1 + x] = 1.0
    # A patch row (channel, y, x) with y = 4a + 2b + c: a is the code's own tap, b the second move's, c the first's.
    taps = rows.reshape(-1, 3, 2, 2, 2, 2, 2, 2)  # code, channel, ya, yb, yc, xa, xb, xc
    code.weight[: len(rows), :, 1:, 1:] = taps.permute(0, 3, 6, 4, 7, 1, 2, 5).reshape(len(rows), CHANNELS, 2, 2)
    last.weight[range(len(rows)), range(len(rows)), 1, 1] = 1.0
    last.bias[:] = -rows @ mean
