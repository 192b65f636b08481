"""The transformer, with the parameter names of diffusers' SD3Transformer2DModel: patch size 2, normalised q and k."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vsf.tiny.training.autoencoder import CHANNELS, Latents

PATCH = 2
HEAD = 64
"""Channels of a head; other hosts infer from the weights that a model has `depth` heads of 64 channels."""
SIDE = 16
"""Latent pixels along each side."""
Rows = Float[Tensor, "batch rows width"]


class RMSNorm(nn.Module):
    """Root-mean-square norm over channels, computed in float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Keep shape and dtype."""
        x_float = x.float()
        return (x_float * torch.rsqrt(x_float.square().mean(-1, keepdim=True) + 1e-6) * self.weight).to(x.dtype)


class Modulation(nn.Module):
    """Map the conditioning vector to ``count`` vectors: shifts, scales and gates."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, count * width)
        self.count = count

    def forward(self, condition: Float[Tensor, "batch width"]) -> Sequence[Float[Tensor, "batch 1 width"]]:
        """Return the vectors, in diffusers' order."""
        return self.linear(F.silu(condition))[:, None].chunk(self.count, -1)


class JointAttention(nn.Module):
    """Attention over image and text rows together, each kind with its own projections."""

    def __init__(self, width: int, last: bool) -> None:
        super().__init__()
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.add_q_proj = nn.Linear(width, width)
        self.add_k_proj = nn.Linear(width, width)
        self.add_v_proj = nn.Linear(width, width)
        self.norm_q = RMSNorm(HEAD)
        self.norm_k = RMSNorm(HEAD)
        self.norm_added_q = RMSNorm(HEAD)
        self.norm_added_k = RMSNorm(HEAD)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.to_add_out = None if last else nn.Linear(width, width)

    def forward(self, image: Rows, text: Rows, bias: Tensor) -> tuple[Rows, Rows | None]:
        """Attend with ``bias`` (batch, 1, 1, rows) added to the logits of each key.

        Returns:
            Image rows, and text rows or, in the last block, None.
        """
        query = torch.cat([self.norm_q(_heads(self.to_q(image))), self.norm_added_q(_heads(self.add_q_proj(text)))], 2)
        key = torch.cat([self.norm_k(_heads(self.to_k(image))), self.norm_added_k(_heads(self.add_k_proj(text)))], 2)
        value = torch.cat([_heads(self.to_v(image)), _heads(self.add_v_proj(text))], 2)
        mask = bias.to(query.dtype)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
        image_out, text_out = out.split([image.shape[1], text.shape[1]], 1)
        return self.to_out[0](image_out), None if self.to_add_out is None else self.to_add_out(text_out)


class GELU(nn.Module):
    """A linear map and a GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 4 * width)

    def forward(self, x: Rows) -> Tensor:
        """Return rows of four times the width."""
        return F.gelu(self.proj(x), approximate="tanh")


class FeedForward(nn.Module):
    """Two linear maps around a GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # The identity stands where diffusers has a dropout, so that the second map has the key ``net.2``.
        self.net = nn.Sequential(GELU(width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Rows) -> Rows:
        """Keep the shape."""
        return self.net(x)


class Block(nn.Module):
    """One dual-stream block; the last one drops the text."""

    def __init__(self, width: int, last: bool) -> None:
        super().__init__()
        self.norm1 = Modulation(width, 6)
        self.norm1_context = Modulation(width, 2 if last else 6)
        self.attn = JointAttention(width, last)
        self.ff = FeedForward(width)
        self.ff_context = None if last else FeedForward(width)

    def forward(self, image: Rows, text: Rows, condition: Tensor, bias: Tensor) -> tuple[Rows, Rows]:
        """Return image and text rows after this block."""
        shift, scale, gate, ff_shift, ff_scale, ff_gate = self.norm1(condition)
        context = self.norm1_context(condition)
        # In diffusers the last block's modulation starts with the scale, that of all other blocks with the shift.
        text_scale, text_shift = (context[0], context[1]) if self.ff_context is None else (context[1], context[0])
        image_in = _norm(image) * (1 + scale) + shift
        text_in = _norm(text) * (1 + text_scale) + text_shift
        image_out, text_out = self.attn(image_in, text_in, bias)
        image = image + gate * image_out
        image = image + ff_gate * self.ff(_norm(image) * (1 + ff_scale) + ff_shift)
        if self.ff_context is not None:
            text = text + context[2] * text_out
            text = text + context[5] * self.ff_context(_norm(text) * (1 + context[4]) + context[3])
        return image, text


class Embedder(nn.Module):
    """Two linear maps around a SiLU."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(inputs, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch width"]:
        """Embed a vector."""
        return self.linear_2(F.silu(self.linear_1(x)))


def run_block(block: Block, *arguments: Tensor) -> tuple[Rows, Rows]:
    """Call a block: the function that the command compiles."""
    return block(*arguments)


class PatchEmbedding(nn.Module):
    """Embed patches of latents as rows and add sine positions, cropped from the middle of a larger grid."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.grid = SIDE // PATCH
        self.proj = nn.Conv2d(CHANNELS, width, PATCH, PATCH)
        # A buffer, because the weights that diffusers loads hold the table too.
        self.pos_embed: Tensor
        self.register_buffer("pos_embed", sine_positions(width, 2 * self.grid, self.grid))

    def forward(self, latents: Latents) -> Rows:
        """Return one row per patch, in the dtype of the projection."""
        rows = self.proj(latents).flatten(2).transpose(1, 2)
        grid = self.grid
        first = grid // 2
        positions = self.pos_embed.view(2 * grid, 2 * grid, -1)[first : first + grid, first : first + grid]
        return (rows + positions.flatten(0, 1)).to(rows.dtype).contiguous()


class ConditionEmbedding(nn.Module):
    """Embed the noise level and the pooled text as one vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.timestep_embedder = Embedder(256, width)
        self.text_embedder = Embedder(width, width)

    def forward(self, sigma: Float[Tensor, " batch"], pooled: Tensor) -> Float[Tensor, "batch width"]:
        """Return the sum of both embeddings; sigma is from 0 to 1."""
        return self.timestep_embedder(_sigma_waves(sigma)) + self.text_embedder(pooled)


class Transformer(nn.Module):
    """SD3Transformer2DModel with ``depth`` blocks and a width of 64 x depth."""

    run_block: ClassVar[Callable[..., tuple[Rows, Rows]]] = staticmethod(run_block)
    """Calls a block. A class attribute: once it is compiled, blocks of one shape share the code, in every copy too."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        width = HEAD * depth
        self.depth = depth
        self.pos_embed = PatchEmbedding(width)
        self.time_text_embed = ConditionEmbedding(width)
        self.context_embedder = nn.Linear(width, width)
        self.transformer_blocks = nn.ModuleList([Block(width, index == depth - 1) for index in range(depth)])
        self.norm_out = Modulation(width, 2)
        self.proj_out = nn.Linear(width, PATCH**2 * CHANNELS)
        self._initialise()

    def _initialise(self) -> None:
        """Draw the initial weights; every block starts as the identity, and the output at zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        modulations = [module.linear for module in self.modules() if isinstance(module, Modulation)]
        for linear in (*modulations, self.proj_out):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self, latents: Latents, sigma: Float[Tensor, " batch"], rows: Rows, pooled: Tensor, bias: Tensor
    ) -> Latents:
        """Return the velocity, noise minus image.

        Args:
            latents: Noisy latents.
            sigma: Noise level of each sample, from 0 to 1.
            rows: Text rows.
            pooled: Pooled text, (batch, width).
            bias: Added to each key's logits, (batch, 1, 1, image rows + text rows).
        """
        grid = SIDE // PATCH
        image = self.pos_embed(latents)
        condition = self.time_text_embed(sigma, pooled)
        text = self.context_embedder(rows)
        for block in self.transformer_blocks:
            image, text = self.run_block(block, image, text, condition, bias)
        scale, shift = self.norm_out(condition)
        out = self.proj_out(_norm(image) * (1 + scale) + shift)
        out = out.view(len(latents), grid, grid, PATCH, PATCH, CHANNELS)
        return torch.einsum("nhwpqc->nchpwq", out).reshape(latents.shape)


def sine_positions(width: int, grid: int, base: int) -> Float[Tensor, "1 positions width"]:
    """Return diffusers' two-dimensional sine embedding of a square grid.

    Args:
        width: Channels.
        grid: Positions along each side.
        base: Side of the grid whose positions are one apart; a larger grid has them closer together.
    """
    steps = torch.arange(grid, dtype=torch.float64) / (grid / base)
    rates = 1 / 10000 ** (torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    line = torch.cat([torch.sin(steps[:, None] * rates), torch.cos(steps[:, None] * rates)], 1)
    across = line[None].expand(grid, -1, -1)
    down = line[:, None].expand(-1, grid, -1)
    return torch.cat([across, down], -1).reshape(1, grid**2, width).float()


def _sigma_waves(sigma: Float[Tensor, " batch"]) -> Float[Tensor, "batch 256"]:
    """Return the sinusoidal embedding of 1000 x sigma, the time step that diffusers passes."""
    rates = torch.exp(-math.log(10000) / 128 * torch.arange(128, device=sigma.device))
    angles = sigma.float()[:, None] * 1000 * rates
    return torch.cat([angles.cos(), angles.sin()], -1)


def _heads(rows: Rows) -> Float[Tensor, "batch heads rows head"]:
    return rows.unflatten(-1, (-1, HEAD)).transpose(1, 2)


def _norm(x: Rows) -> Rows:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)
