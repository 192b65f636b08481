"""Transformers whose image tokens attend to one text, with a mask over what fills it up."""

from typing import Any, ClassVar

import torch

from vsf.families.base.family import Encoded, Family, Role, require_encoders
from vsf.patching.swaps import calls_swapped
from vsf.text.embeddings import TokenizeUnpadded


class MaskedText(Family):
    """A transformer with one text encoder; the keys are [positive | negative].

    Classifier-free guidance runs in one batch, unconditional rows first.
    """

    roles: ClassVar[tuple[tuple[str, Role], ...]] = ((r"transformer_blocks\.\d+\.attn2", Role("cross")),)
    text_mask = "encoder_attention_mask"
    conditions: ClassVar[tuple[str, ...]] = ("encoder_hidden_states", "encoder_attention_mask")
    guidance = "batch"


def encode_masked(pipe: Any, text: str, tokenized: TokenizeUnpadded, **options: Any) -> Encoded:
    """Encode with a pipeline that returns (embeddings, mask, ...), and keep what the mask keeps.

    `tokenized` stands in for the tokenizer's call; `options` go to the pipeline's `encode_prompt`.
    Raises PromptError when the encoder is gone.
    """
    require_encoders(pipe, "text_encoder", "tokenizer")
    with torch.no_grad(), calls_swapped([(pipe.tokenizer, tokenized)]):
        embeddings, mask, *_ = pipe.encode_prompt(text, **options)
    keep = mask[0].bool().to(embeddings.device)
    return Encoded(embeddings[0, keep], tokenized.special[0].to(keep.device)[keep])
