"""CogView3+: joint attention, text tokens first."""

from vsf.families.base.family import Encoded, Family, Role
from vsf.families.base.host import Pipeline
from vsf.families.encoders.plain import char_offsets, encode_plain
from vsf.text.token_weights import Characters


class CogView3Plus(Family):
    """CogView3+.

    The token sequence is [negative | positive | image]; text has no positions. Pipelines pad T5's text to 224 tokens,
    which take part in the attention, and T5 has no mask.
    """

    name = "cogview3plus"
    denoisers = ("CogView3PlusTransformer2DModel",)
    pipelines = ("CogView3PlusPipeline",)
    negatives_first = True
    roles = ((r"transformer_blocks\.\d+\.attn1", Role("joint", image="last")),)
    guidance = "batch"

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of T5, its end mark included."""
        return encode_plain(pipe, text)

    def characters(self, pipe: Pipeline, text: str) -> Characters:
        """Return the characters of T5's tokens, at the full length of 224."""
        return char_offsets(pipe, text, 224)
