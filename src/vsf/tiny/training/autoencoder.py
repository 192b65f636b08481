"""The autoencoder: 128 x 128 pixels to 16 x 16 latents, with the parameter names of diffusers' AutoencoderTiny."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = 16
FACTOR = 8
WIDTH = 48
DECODER_BLOCKS = (4, 3, 1, 0)
SPREAD = 0.25
"""Standard deviation that the encoder's output should have.

Principal components reach 11 times their standard deviation, and the decoder squashes values beyond 3.
"""
Latents = Float[Tensor, "batch 16 height width"]
Pixels = Float[Tensor, "batch 3 size size"]


class Residual(nn.Module):
    """Three 3 x 3 convolutions with a skip connection: AutoencoderTinyBlock with equal input and output widths."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Float[Tensor, "batch width y x"]) -> Float[Tensor, "batch width y x"]:
        """Keep the shape."""
        return F.relu(self.conv(x) + x)


class Encoder(nn.Module):
    """Strided convolutions, each followed by residual blocks; linear if all block counts are 0."""

    def __init__(self, blocks: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for stage, count in enumerate(blocks):
            # Built in every stage although only stage 0 uses it: its initialisation draws random numbers, and dropping
            # it would give every later layer of a seeded run other weights.
            first = nn.Conv2d(3, WIDTH, 3, padding=1)
            layers.append(nn.Conv2d(WIDTH, WIDTH, 3, padding=1, stride=2, bias=False) if stage else first)
            layers += [Residual(WIDTH) for _ in range(count)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(WIDTH, CHANNELS, 3, padding=1))

    def forward(self, pixels: Pixels) -> Latents:
        """Encode pixels from -1 to 1."""
        return self.layers((pixels + 1) / 2)


class Decoder(nn.Module):
    """Residual blocks and nearest-neighbour upsampling."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(CHANNELS, WIDTH, 3, padding=1), nn.ReLU()]
        for stage, count in enumerate(DECODER_BLOCKS):
            is_last = stage == len(DECODER_BLOCKS) - 1
            layers += [Residual(WIDTH) for _ in range(count)]
            if not is_last:
                layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
            layers.append(nn.Conv2d(WIDTH, 3 if is_last else WIDTH, 3, padding=1, bias=is_last))
        self.layers = nn.Sequential(*layers)

    def forward(self, latents: Latents) -> Pixels:
        """Decode to pixels from about -1 to 1."""
        return self.layers(torch.tanh(latents / 3) * 3) * 2 - 1


class Autoencoder(nn.Module):
    """AutoencoderTiny with 8-fold downsampling.

    Args:
        encoder_blocks: Residual blocks after each of the encoder's four convolutions.

    Raises:
        ValueError: There are not four counts.
    """

    def __init__(self, encoder_blocks: Sequence[int] = (0, 0, 0, 0)) -> None:
        super().__init__()
        if 2 ** (len(encoder_blocks) - 1) != FACTOR:
            raise ValueError(f"expected 4 counts of blocks for {FACTOR}-fold downsampling, got {len(encoder_blocks)}")
        self.encoder_blocks = tuple(encoder_blocks)
        self.encoder = Encoder(encoder_blocks)
        self.decoder = Decoder()


def to_pixels(images: Tensor) -> Pixels:
    """Convert bytes (batch, height, width, 3) to pixels from -1 to 1."""
    return (images.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def write_principal_code(encoder: Encoder, pixels: Pixels) -> None:
    """Set the encoder's weights so that it computes exactly the principal components of 8 x 8 patches.

    The first convolutions move neighbours into channels, the last strided one applies the code. Moved pixels stay
    between 0 and 1, so residual blocks whose last convolution is zero pass them through their ReLU unchanged.

    Args:
        encoder: Overwritten in place.
        pixels: Images whose patches the components are computed from.
    """
    rows, mean = _principal_rows(pixels)
    first, *moves, code, last = [layer for layer in encoder.layers if isinstance(layer, nn.Conv2d)]
    for layer in (first, *moves, code, last):
        layer.weight.zero_()
        if layer.bias is not None:
            layer.bias.zero_()
    for block in encoder.layers:
        if isinstance(block, Residual):
            for parameter in block.conv[4].parameters():
                parameter.zero_()
    # The encoder itself maps pixels from -1..1 to 0..1.
    first.weight[range(3), range(3), 1, 1] = 1.0
    channels = 3
    # Rows and columns 0 of the 3 x 3 kernels stay zero: at stride 2 they read the cell to the left or above.
    for move in moves:
        for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
            for channel in range(channels):
                move.weight[(2 * y + x) * channels + channel, channel, 1 + y, 1 + x] = 1.0
        channels *= 4
    # A patch row (channel, y, x) with y = 4a + 2b + c: a is the code's own tap, b the second move's, c the first's.
    taps = 2 * rows.reshape(CHANNELS, 3, 2, 2, 2, 2, 2, 2)  # code, channel, ya, yb, yc, xa, xb, xc
    taps = taps.permute(0, 3, 6, 4, 7, 1, 2, 5).reshape(CHANNELS, channels, 2, 2)
    code.weight[:CHANNELS, :channels, 1:, 1:] = taps
    last.weight[range(CHANNELS), range(CHANNELS), 1, 1] = 1.0
    assert last.bias is not None
    last.bias[:] = -rows @ (mean + 1)


def _principal_rows(pixels: Pixels) -> tuple[Float[Tensor, "16 patch"], Float[Tensor, " patch"]]:
    """Return the leading directions of all patches, as rows (channel, y, x), and the mean patch.

    Each row is divided by the square root of its standard deviation, so that the weak directions, which hold the
    detail, are not drowned by the strong ones; all are then scaled so that the code has about `SPREAD`.
    """
    patches = pixels.unfold(2, FACTOR, FACTOR).unfold(3, FACTOR, FACTOR).permute(0, 2, 3, 1, 4, 5)
    patches = patches.reshape(-1, 3 * FACTOR**2)
    mean = patches.mean(0)
    covariance = (patches - mean).T @ (patches - mean) / len(patches)
    # In ascending order, so that the leading directions come last.
    variances, directions = torch.linalg.eigh(covariance.double())
    variances = variances[-CHANNELS:].flip(0)
    directions = directions[:, -CHANNELS:].flip(1)
    rows = directions.T / variances[:, None] ** 0.25
    return (rows / variances.sqrt().mean().sqrt() * SPREAD).to(pixels.dtype), mean
