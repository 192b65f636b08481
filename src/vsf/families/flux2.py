"""FLUX.2: text tokens first, in double and in fused single blocks, with positions of their own."""

from typing import Any

import torch

from vsf.families.base.family import Encoded, require_encoders
from vsf.families.layouts.positioned import Placed
from vsf.patching.swaps import calls_swapped
from vsf.text.embeddings import TokenizeTemplate


class Flux2(Placed):
    """FLUX.2 dev and klein.

    The i-th text token has position i on an axis of its own, and so has that of each negative. Pipelines pad the text
    to 512 tokens, which take part in the attention. The text is a chat: some of its tokens are the template's.
    """

    name = "flux2"
    denoisers = ("Flux2Transformer2DModel",)
    counting = (3,)

    def encode(self, pipe: Any, text: str) -> Encoded:
        """The chat as the pipeline writes it; a processor in the tokenizer's place has the tokenizer inside."""
        require_encoders(pipe, "text_encoder", "tokenizer")
        words = TokenizeTemplate(text)
        with torch.no_grad(), calls_swapped([(getattr(pipe.tokenizer, "tokenizer", pipe.tokenizer), words)]):
            embeddings, _ = pipe.encode_prompt(text)
        return Encoded(embeddings[0], words.special.to(embeddings.device), words.characters)
