"""The transformer, under the key names of diffusers' SD3Transformer2DModel: patch 2, normalised queries and keys."""

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
HEAD = 64  # channels; other hosts infer from the weights that there are `depth` heads of 64
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
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6) * self.weight).to(x.dtype)


class Modulation(nn.Module):
    """Maps the conditioning vector to so many shifts, scales and gates."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, count * width)
        self.count = count

    def forward(self, condition: Float[Tensor, "batch width"]) -> Sequence[Float[Tensor, "batch 1 width"]]:
        """Return the vectors, in the host's order."""
        return self.linear(F.silu(condition))[:, None].chunk(self.count, -1)


class JointAttention(nn.Module):
    """Attention over image and text rows together, each with projections of its own."""

    def __init__(self, width: int, last: bool) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.add_q_proj, self.add_k_proj, self.add_v_proj = (nn.Linear(width, width) for _ in range(3))
        self.norm_q, self.norm_k, self.norm_added_q, self.norm_added_k = (RMSNorm(HEAD) for _ in range(4))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.to_add_out = None if last else nn.Linear(width, width)

    def forward(self, image: Rows, text: Rows, bias: Tensor) -> tuple[Rows, Rows | None]:
        """Attend with ``bias`` (batch, 1, 1, rows) added to the logits of each key."""
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
        """Widen fourfold."""
        return F.gelu(self.proj(x), approximate="tanh")


class FeedForward(nn.Module):
    """Two linear maps around a GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GELU(width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Rows) -> Rows:
        """Keep the shape."""
        return self.net(x)


class Block(nn.Module):
    """One dual-stream block; the last one drops the text."""

    def __init__(self, width: int, last: bool) -> None:
        super().__init__()
        self.norm1, self.norm1_context = Modulation(width, 6), Modulation(width, 2 if last else 6)
        self.attn, self.ff = JointAttention(width, last), FeedForward(width)
        self.ff_context = None if last else FeedForward(width)

    def forward(self, image: Rows, text: Rows, condition: Tensor, bias: Tensor) -> tuple[Rows, Rows]:
        """Return image and text rows after this block."""
        shift, scale, gate, ff_shift, ff_scale, ff_gate = self.norm1(condition)
        context = self.norm1_context(condition)
        # The host's last block has the scale first, the others the shift.
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
        self.linear_1, self.linear_2 = nn.Linear(inputs, width), nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch width"]:
        """Embed a vector."""
        return self.linear_2(F.silu(self.linear_1(x)))


def run_block(block: Block, *arguments: Tensor) -> tuple[Rows, Rows]:
    """Call a block."""
    return block(*arguments)


class PatchEmbedding(nn.Module):
    """Patches of latents as rows, with the middle of a larger grid of sine positions added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.grid = SIDE // PATCH
        self.proj = nn.Conv2d(CHANNELS, width, PATCH, PATCH)
        self.pos_embed: Tensor
        self.register_buffer("pos_embed", sine_positions(width, 2 * self.grid, self.grid))

    def forward(self, latents: Latents) -> Rows:
        """Embed latents, in half precision where the rest is."""
        rows = self.proj(latents).flatten(2).transpose(1, 2)
        low, grid = self.grid // 2, self.grid
        places = self.pos_embed.view(2 * grid, 2 * grid, -1)[low : low + grid, low : low + grid]
        return (rows + places.flatten(0, 1)).to(rows.dtype).contiguous()


class ConditionEmbedding(nn.Module):
    """Noise level and pooled text as one vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.timestep_embedder, self.text_embedder = Embedder(256, width), Embedder(width, width)

    def forward(self, sigma: Float[Tensor, " batch"], pooled: Tensor) -> Float[Tensor, "batch width"]:
        """Embed sigma, from 0 to 1, and the pooled text."""
        return self.timestep_embedder(_sigma_waves(sigma)) + self.text_embedder(pooled)


class Transformer(nn.Module):
    """SD3Transformer2DModel whose width is 64 x its depth."""

    run_block: ClassVar[Callable[..., tuple[Rows, Rows]]] = staticmethod(run_block)
    """How a block is called: compiled once, all blocks of one shape share the result, those of every copy too."""

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
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        # Every block starts as the identity, and the output at nothing.
        zeroed = [module.linear for module in self.modules() if isinstance(module, Modulation)]
        for module in (*zeroed, self.proj_out):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)

    def forward(
        self, latents: Latents, sigma: Float[Tensor, " batch"], rows: Rows, pooled: Tensor, bias: Tensor
    ) -> Latents:
        """Return the velocity, noise minus image."""
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


def sine_positions(width: int, grid: int, base: int) -> Float[Tensor, "1 places width"]:
    """Return diffusers' two-dimensional sine embedding of a square grid."""
    steps = torch.arange(grid, dtype=torch.float64) / (grid / base)
    rates = 1 / 10000 ** (torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    line = torch.cat([torch.sin(steps[:, None] * rates), torch.cos(steps[:, None] * rates)], 1)
    across, down = line[None].expand(grid, -1, -1), line[:, None].expand(-1, grid, -1)
    return torch.cat([across, down], -1).reshape(1, grid**2, width).float()


def _sigma_waves(sigma: Float[Tensor, " batch"]) -> Float[Tensor, "batch 256"]:
    rates = torch.exp(-math.log(10000) / 128 * torch.arange(128, device=sigma.device))
    angles = sigma.float()[:, None] * 1000 * rates
    return torch.cat([angles.cos(), angles.sin()], -1)


def _heads(rows: Rows) -> Float[Tensor, "batch heads rows head"]:
    return rows.unflatten(-1, (-1, HEAD)).transpose(1, 2)


def _norm(x: Rows) -> Rows:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)
