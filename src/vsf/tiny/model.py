"""Build the embedded model: an ordinary SD3 pipeline, only very small.

The transformer's width is 64 x its depth and the latents have 16 channels, because other hosts infer both from the
weights. Heads are 64 channels wide, queries and keys are RMS-normalised, as in SD3.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from jaxtyping import Float, Int
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from vsf.tiny.patch_code import CHANNELS
from vsf.tiny.words import WORDS

IMAGE_SIZE = 64
LATENT_SIZE = 8
LATENT_CHANNELS = 16
PROMPT_TOKENS = 24
DEPTH = 3
WIDTH = 64 * DEPTH
ENCODER_WIDTH = WIDTH // 2  # two encoders, concatenated on their channels


def tokenizer() -> CLIPTokenizer:
    """Build a byte-pair tokenizer with one token for each word of the captions; it spells others letter by letter."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'\"()-+"
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        pieces = _apply_merges([*word[:-1], word[-1] + "</w>"], merges)
        # Later merges rank lower, so a word that already comes out whole stays whole.
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            tokens.append(pieces[0] + pieces[1])
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    # Different merges can spell the same token, which keeps the number of the first.
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=PROMPT_TOKENS)


def _apply_merges(pieces: list[str], merges: Sequence[tuple[str, str]]) -> list[str]:
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    while True:
        pairs = [(ranks[pair], index) for index, pair in enumerate(pairwise(pieces)) if pair in ranks]
        if not pairs:
            return pieces
        _, index = min(pairs)
        pieces = [*pieces[:index], pieces[index] + pieces[index + 1], *pieces[index + 2 :]]


def text_encoder(words: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """Build a text encoder: diffusers reads rows after its second layer, the pooled vector after its third and last."""
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=ENCODER_WIDTH,
            intermediate_size=2 * ENCODER_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=PROMPT_TOKENS,
            projection_dim=ENCODER_WIDTH,
            hidden_act="gelu",
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
    )


def autoencoder() -> AutoencoderTiny:
    """Build the autoencoder: 64 x 64 pixels to 8 x 8 latents of 16 channels, the encoder linear (see `patch_code`)."""
    return AutoencoderTiny(
        encoder_block_out_channels=(CHANNELS,) * 4,
        num_encoder_blocks=(0, 0, 0, 0),
        decoder_block_out_channels=(48,) * 4,
        num_decoder_blocks=(4, 3, 1, 0),
        latent_channels=LATENT_CHANNELS,
        # Latents as stored have spread 1/2, because the decoder bends values beyond 3.
        scaling_factor=2.0,
        shift_factor=0.0,
    )


def transformer() -> SD3Transformer2DModel:
    """Build the transformer: three dual-stream blocks over 64 image tokens, one token per latent pixel."""
    return SD3Transformer2DModel(
        sample_size=LATENT_SIZE,
        patch_size=1,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_layers=DEPTH,
        attention_head_dim=64,
        num_attention_heads=DEPTH,
        joint_attention_dim=WIDTH,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        pos_embed_max_size=2 * LATENT_SIZE,
        qk_norm="rms_norm",
    )


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    """Build a scheduler that ends at sigma .1: stock spacing would spend the last of few steps on a sigma of .001."""
    return FlowMatchEulerDiscreteScheduler(shift=1.5, shift_terminal=0.1)


def pipeline() -> StableDiffusion3Pipeline:
    """Build the whole model with random weights from torch's global seed."""
    words = tokenizer()
    return StableDiffusion3Pipeline(
        transformer=transformer(),
        scheduler=scheduler(),
        vae=autoencoder(),
        text_encoder=text_encoder(words),
        tokenizer=words,
        text_encoder_2=text_encoder(words),
        tokenizer_2=words,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def encode_text(
    encoders: Iterable[torch.nn.Module], tokens: Int[Tensor, "batch tokens"]
) -> tuple[Float[Tensor, "batch tokens channels"], Float[Tensor, "batch channels"]]:
    """Return token rows and pooled vector as ``StableDiffusion3Pipeline.encode_prompt`` does, without filler rows."""
    rows: list[Tensor] = []
    pooled: list[Tensor] = []
    for encoder in encoders:
        output = encoder(tokens, output_hidden_states=True)
        rows.append(output.hidden_states[-2])
        pooled.append(output.text_embeds)
    return torch.cat(rows, dim=-1), torch.cat(pooled, dim=-1)


def save(pipe: StableDiffusion3Pipeline, folder: Path) -> None:
    """Write an ordinary diffusers folder: safetensors, float16."""
    networks = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    for network in networks:
        network.to(torch.float16)
    for words in (pipe.tokenizer, pipe.tokenizer_2):
        # The settings of its last call would be saved with it.
        words.backend_tokenizer.no_padding()
        words.backend_tokenizer.no_truncation()
    pipe.save_pretrained(folder, safe_serialization=True)
    # Some configurations name the folder that they were once read from.
    for file in folder.rglob("*.json"):
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(line for line in lines if '"_name_or_path"' not in line))
    for network in networks:
        network.to(torch.float32)
