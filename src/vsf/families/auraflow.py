"""AuraFlow: joint attention with registers in front of the text."""

from dataclasses import replace

from vsf.attention.layout import Span
from vsf.families.base.family import Encoded, Family, Injection, Role
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.encoders.plain import char_offsets, encode_plain
from vsf.text.embeddings import NegativeRows
from vsf.text.token_weights import Characters


class AuraFlow(Family):
    """AuraFlow.

    The token sequence is [registers | positive | negative | image]. The registers, learned tokens, belong to the model:
    everything sees them, and they see no negative. Pipelines pad the text to 256 tokens with zeros, which take part in
    the attention. Text has no positions.
    """

    name = "auraflow"
    denoisers = ("AuraFlowTransformer2DModel",)
    pipelines = ("AuraFlowPipeline",)
    roles = ((r"(joint|single)_transformer_blocks\.\d+\.attn", Role("joint", image="last")),)
    guidance = "batch"

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of the encoder, its end mark included."""
        return encode_plain(pipe, text)

    def characters(self, pipe: Pipeline, text: str) -> Characters:
        """Return the characters of the encoder's tokens, at the full length of 256."""
        return char_offsets(pipe, text, 256)

    def inject(self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows, layout: str) -> Injection:
        """Append the negatives; the model puts its registers in front."""
        injection = super().inject(denoiser, arguments, negative, layout)
        registers = Span("shared", denoiser.register_tokens.shape[1])
        return replace(injection, text=tuple((registers, *spans) for spans in injection.text))
