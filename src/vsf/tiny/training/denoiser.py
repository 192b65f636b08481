"""The networks that teacher and student train together: the transformer and its two text encoders."""

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

# A logit that takes a key out of the softmax and does not overflow in half precision.
_MASKED = -1e4
LAYERS = 3
HEADS = 4
TextRows = Float[Tensor, "batch tokens width"]


class SelfAttention(nn.Module):
    """Causal self-attention with `HEADS` heads."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: TextRows) -> TextRows:
        """Keep the shape."""
        query = _split_heads(self.q_proj(x))
        key = _split_heads(self.k_proj(x))
        value = _split_heads(self.v_proj(x))
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """Two linear maps around a GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * width)
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, x: TextRows) -> TextRows:
        """Keep the shape."""
        return self.fc2(F.gelu(self.fc1(x)))


class TextLayer(nn.Module):
    """One layer of CLIP's text model."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.self_attn = SelfAttention(width)
        self.mlp = MLP(width)
        self.layer_norm1 = nn.LayerNorm(width)
        self.layer_norm2 = nn.LayerNorm(width)

    def forward(self, x: TextRows) -> TextRows:
        """Keep the shape."""
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class TokenEmbeddings(nn.Module):
    """Learnt embeddings of tokens and of their positions."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(tokens, width)
        self.position_embedding = nn.Embedding(LENGTH, width)
        nn.init.normal_(self.token_embedding.weight, std=0.1)
        nn.init.normal_(self.position_embedding.weight, std=0.05)

    def forward(self, tokens: Int[Tensor, "batch tokens"]) -> TextRows:
        """Embed token ids."""
        return self.token_embedding(tokens) + self.position_embedding.weight


class Layers(nn.Module):
    """Container that puts the layers under the key transformers gives them, ``encoder.layers``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([TextLayer(width) for _ in range(LAYERS)])


class TextModel(nn.Module):
    """CLIP's text model."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.embeddings = TokenEmbeddings(tokens, width)
        self.encoder = Layers(width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, tokens: Int[Tensor, "batch tokens"]) -> tuple[TextRows, TextRows]:
        """Return the rows after the last layer but one, and those after the last layer and its norm."""
        x = self.embeddings(tokens)
        *early, last = self.encoder.layers
        for layer in early:
            x = layer(x)
        return x, self.final_layer_norm(last(x))


class TextEncoder(nn.Module):
    """CLIPTextModelWithProjection of three layers, with transformers' parameter names."""

    def __init__(self, tokens: int, width: int, end: int) -> None:
        super().__init__()
        self.end = end
        self.width = width
        self.text_model = TextModel(tokens, width)
        self.text_projection = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Int[Tensor, "batch tokens"]) -> tuple[TextRows, Float[Tensor, "batch width"]]:
        """Return the rows after the second layer and the pooled vector after the third, as SD3 reads them."""
        rows, last_rows = self.text_model(tokens)
        # The end mark is also the padding token; `argmax` returns the first one.
        first_end = (tokens == self.end).int().argmax(-1)
        pooled = last_rows[torch.arange(len(tokens), device=tokens.device), first_end]
        return rows, self.text_projection(pooled)


class Denoiser(nn.Module):
    """Predict the velocity from the text rows that a plain SD3 call produces.

    That call appends 256 equal filler rows; one row whose key logit has ln 256 added stands for all of them. A bare
    text has neither filler nor padding rows: the situation of a negative prompt's own stream.
    """

    def __init__(self, depth: int, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.end = tokenizer.end
        self.transformer = Transformer(depth)
        # The two encoders' channels are concatenated to the transformer's width.
        width = HEAD * depth // 2
        self.encoders = nn.ModuleList([TextEncoder(len(tokenizer.ids), width, tokenizer.end) for _ in range(2)])

    def forward(
        self,
        latents: Latents,
        sigma: Float[Tensor, " batch"],
        tokens: Int[Tensor, "batch tokens"],
        bare: Bool[Tensor, " batch"] | None = None,
    ) -> Latents:
        """Return the velocity, noise minus image.

        Args:
            latents: Noisy latents.
            sigma: Noise level of each sample, from 0 to 1.
            tokens: Padded captions.
            bare: Samples whose text has neither filler nor padding rows; None for no sample.
        """
        first_rows, first_pooled = self.encoders[0](tokens)
        second_rows, second_pooled = self.encoders[1](tokens)
        # Attention kernels of a GPU are fastest with a multiple of eight keys, so masked rows are appended there.
        masked_rows = -(tokens.shape[1] + 1) % 8 if latents.is_cuda else 0
        rows = F.pad(torch.cat([first_rows, second_rows], -1), (0, 0, 0, 1 + masked_rows))
        pooled = torch.cat([first_pooled, second_pooled], -1)
        bias = self._key_bias(latents, tokens, bare, masked_rows)
        return self.transformer(latents, sigma, rows, pooled, bias)

    def _key_bias(self, latents: Latents, tokens: Tensor, bare: Tensor | None, masked_rows: int) -> Tensor:
        """Return the bias of each key's logits, (batch, 1, 1, image + text + filler + masked rows)."""
        if bare is None:
            bare = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
        # The end mark is also the padding token: the first one belongs to the text, all later ones are padding.
        padding = (tokens == self.end).int().cumsum(-1) > 1
        text = torch.where(padding & bare[:, None], _MASKED, 0.0)
        filler = torch.where(bare, _MASKED, math.log(FILLER_ROWS))[:, None]
        image = text.new_zeros(len(tokens), latents[0, 0].numel() // PATCH**2)
        return F.pad(torch.cat([image, text, filler], 1), (0, masked_rows), value=_MASKED)[:, None, None]


def _split_heads(rows: TextRows) -> Float[Tensor, "batch heads tokens channels"]:
    return rows.unflatten(-1, (HEADS, -1)).transpose(1, 2)
