"""The transformer together with its two text encoders: what teacher and student train."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vsf.tiny.collapse_padding import FILLER_ROWS
from vsf.tiny.training.autoencoder import Latents
from vsf.tiny.training.tokens import LENGTH, Tokenizer
from vsf.tiny.training.transformer import HEAD, PATCH, Transformer

_UNSEEN = -1e4  # a logit that takes a key out of the softmax, in half precision too
LAYERS, HEADS = 3, 4
TextRows = Float[Tensor, "batch tokens width"]


class SelfAttention(nn.Module):
    """Causal attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: TextRows) -> TextRows:
        """Keep the shape."""
        projections = self.q_proj, self.k_proj, self.v_proj
        query, key, value = (project(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for project in projections)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two linear maps around a GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: TextRows) -> TextRows:
        """Keep the shape."""
        return self.fc2(F.gelu(self.fc1(x)))


class TextLayer(nn.Module):
    """One layer of CLIP's text model."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.self_attn, self.mlp = SelfAttention(width), MLP(width)
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: TextRows) -> TextRows:
        """Keep the shape."""
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class TokenEmbeddings(nn.Module):
    """Words and places as vectors."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.token_embedding, self.position_embedding = nn.Embedding(tokens, width), nn.Embedding(LENGTH, width)
        nn.init.normal_(self.token_embedding.weight, std=0.1)
        nn.init.normal_(self.position_embedding.weight, std=0.05)

    def forward(self, tokens: Int[Tensor, "batch tokens"]) -> TextRows:
        """Embed token numbers."""
        return self.token_embedding(tokens) + self.position_embedding.weight


class Layers(nn.Module):
    """The layers, under the key that transformers gives them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([TextLayer(width) for _ in range(LAYERS)])


class TextModel(nn.Module):
    """CLIP's text model."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.embeddings, self.encoder = TokenEmbeddings(tokens, width), Layers(width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, tokens: Int[Tensor, "batch tokens"]) -> tuple[TextRows, TextRows]:
        """Return the rows after the last layer but one, and after the last one and its norm."""
        x = self.embeddings(tokens)
        *early, last = self.encoder.layers
        for layer in early:
            x = layer(x)
        return x, self.final_layer_norm(last(x))


class TextEncoder(nn.Module):
    """CLIPTextModelWithProjection of three layers, under transformers' key names."""

    def __init__(self, tokens: int, width: int, end: int) -> None:
        super().__init__()
        self.end, self.width = end, width
        self.text_model = TextModel(tokens, width)
        self.text_projection = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Int[Tensor, "batch tokens"]) -> tuple[TextRows, Float[Tensor, "batch width"]]:
        """Return the rows after the second layer and the pooled vector after the third, as SD3 reads them."""
        rows, finished = self.text_model(tokens)
        first_end = (tokens == self.end).int().argmax(-1)
        return rows, self.text_projection(finished[torch.arange(len(tokens), device=tokens.device), first_end])


class Denoiser(nn.Module):
    """Velocity for the rows of text that a plain SD3 call produces.

    That call appends 256 equal filler rows; one whose key carries ln 256 stands for all. A bare text has neither filler
    nor padding: the situation of a negative prompt's own stream.
    """

    def __init__(self, depth: int, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.end = tokenizer.end
        self.transformer = Transformer(depth)
        self.encoders = nn.ModuleList(
            [TextEncoder(len(tokenizer.ids), HEAD * depth // 2, tokenizer.end) for _ in range(2)]
        )

    def forward(
        self,
        latents: Latents,
        sigma: Float[Tensor, " batch"],
        tokens: Int[Tensor, "batch tokens"],
        bare: Bool[Tensor, " batch"] | None = None,
    ) -> Latents:
        """Return noise minus image; texts are bare where ``bare`` says so."""
        encoded = [encoder(tokens) for encoder in self.encoders]
        unseen = -(tokens.shape[1] + 1) % 8 if latents.is_cuda else 0  # a GPU's kernels like multiples of eight rows
        rows = F.pad(torch.cat([rows for rows, _ in encoded], -1), (0, 0, 0, 1 + unseen))
        pooled = torch.cat([pooled for _, pooled in encoded], -1)
        return self.transformer(latents, sigma, rows, pooled, self._bias(latents, tokens, bare, unseen))

    def _bias(self, latents: Latents, tokens: Tensor, bare: Tensor | None, unseen: int) -> Tensor:
        if bare is None:
            bare = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
        padding = (tokens == self.end).int().cumsum(-1) > 1  # the first end mark counts, those behind it do not
        text = torch.where(padding & bare[:, None], _UNSEEN, 0.0)
        filler = torch.where(bare, _UNSEEN, math.log(FILLER_ROWS))[:, None]
        image = text.new_zeros(len(tokens), latents[0, 0].numel() // PATCH**2)
        return F.pad(torch.cat([image, text, filler], 1), (0, unseen), value=_UNSEEN)[:, None, None]
