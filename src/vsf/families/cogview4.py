"""CogView4: joint attention, text tokens first."""

from typing import Any

import torch
from torch import Tensor

from vsf.families.base.family import Encoded, Family, Role, require_encoders
from vsf.patching.swaps import calls_swapped
from vsf.text.embeddings import TokenizeTemplate


class CogView4(Family):
    """CogView4 and its control variant.

    The token sequence is [negative | positive | image]; text has no positions. Pipelines fill a text up in front to a
    multiple of 16 tokens, which take part in the attention and in GLM's own.
    """

    name = "cogview4"
    denoisers = ("CogView4Transformer2DModel",)
    negatives_first = True
    roles = ((r"transformer_blocks\.\d+\.attn1", Role("joint", image="last")),)

    def encode(self, pipe: Any, text: str) -> Encoded:
        """Rows of GLM, with the marks in front; the filling is taken off before it reads the text."""
        require_encoders(pipe, "text_encoder", "tokenizer")
        tokens = TokenizeTemplate(text)

        def read(original: Any, encoder: object, ids: Tensor, **options: Any) -> Any:
            return original(encoder, ids[:, -len(tokens.special) :], **options)

        with torch.no_grad(), calls_swapped([(pipe.tokenizer, tokens), (pipe.text_encoder, read)]):
            embeddings, _ = pipe.encode_prompt(text, do_classifier_free_guidance=False)
        return Encoded(embeddings[0], tokens.special.to(embeddings.device), tokens.characters)
