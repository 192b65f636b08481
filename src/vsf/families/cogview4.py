"""CogView4: joint attention, text tokens first."""

from typing import Any

import torch
from torch import Tensor

from vsf.families.base.family import Encoded, Family, Role, require_encoders
from vsf.families.base.host import Original, Pipeline
from vsf.patching.swaps import calls_swapped
from vsf.text.embeddings import TokenizeTemplate


class CogView4(Family):
    """CogView4 and its control variant.

    The token sequence is [negative | positive | image]; text has no positions. Pipelines pad the text in front to a
    multiple of 16 tokens, which take part in the attention and in GLM's own.
    """

    name = "cogview4"
    denoisers = ("CogView4Transformer2DModel",)
    pipelines = ("CogView4Pipeline", "CogView4ControlPipeline")
    negatives_first = True
    roles = ((r"transformer_blocks\.\d+\.attn1", Role("joint", image="last")),)

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of GLM, with the marks in front; the padding is cut off before GLM reads the text."""
        require_encoders(pipe, "text_encoder", "tokenizer")
        template = TokenizeTemplate(text)

        def read_unpadded(original: Original, encoder: object, ids: Tensor, **options: Any) -> Any:
            # Cut off here, not in the tokenizer: the pipeline itself adds the padding, in front of the tokens.
            return original(encoder, ids[:, -len(template.special) :], **options)

        with torch.no_grad(), calls_swapped([(pipe.tokenizer, template), (pipe.text_encoder, read_unpadded)]):
            embeddings, _ = pipe.encode_prompt(text, do_classifier_free_guidance=False)
        return Encoded(embeddings[0], template.special.to(embeddings.device), template.characters)
