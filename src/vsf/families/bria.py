"""Bria 3: the shape of FLUX.1."""

from typing import Any

import torch

from vsf.families.base.family import Encoded, require_encoders
from vsf.families.layouts.positioned import Placed


class Bria(Placed):
    """Bria 3.

    All text tokens have position 0. Pipelines fill a text up to 128 tokens with zeros, which take part in the
    attention, after T5 has read it without.
    """

    name = "bria"
    denoisers = ("BriaTransformer2DModel",)
    guidance = "batch"

    def encode(self, pipe: Any, text: str) -> Encoded:
        """Rows of T5, as many as the tokenizer makes tokens."""
        require_encoders(pipe, "text_encoder", "tokenizer")
        with torch.no_grad():
            embeddings, *_ = pipe.encode_prompt(text, do_classifier_free_guidance=False)
        limit = embeddings.shape[1]
        tokens = pipe.tokenizer(text, truncation=True, max_length=limit, return_special_tokens_mask=True)
        special = torch.tensor(tokens.special_tokens_mask, dtype=torch.bool, device=embeddings.device)
        return Encoded(embeddings[0, : len(special)], special)
