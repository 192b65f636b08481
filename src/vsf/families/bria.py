"""Bria 3: the shape of FLUX.1."""

import torch

from vsf.families.base.family import Encoded, require_encoders
from vsf.families.base.host import Pipeline
from vsf.families.layouts.positioned import FluxLike


class Bria(FluxLike):
    """Bria 3.

    All text tokens have position 0. Pipelines pad the text to 128 tokens with zeros, which take part in the attention,
    after T5 has read it without padding.
    """

    name = "bria"
    denoisers = ("BriaTransformer2DModel",)
    pipelines = ("BriaPipeline",)
    guidance = "batch"

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of T5, as many as the tokenizer makes tokens."""
        require_encoders(pipe, "text_encoder", "tokenizer")
        with torch.no_grad():
            embeddings, *_ = pipe.encode_prompt(text, do_classifier_free_guidance=False)
        # The zeros are added to the embeddings, so the tokenizer tells how many rows are real.
        padded_length = embeddings.shape[1]
        tokens = pipe.tokenizer(text, truncation=True, max_length=padded_length, return_special_tokens_mask=True)
        special = torch.tensor(tokens.special_tokens_mask, dtype=torch.bool, device=embeddings.device)
        return Encoded(embeddings[0, : len(special)], special)
