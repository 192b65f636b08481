"""Allegro: image tokens attend to T5's text, whose padding is masked."""

from vsf.families.base.family import Encoded, Family, Injection, Role, Tokens
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.encoders.plain import encode_plain
from vsf.text.embeddings import NegativeRows


class Allegro(Family):
    """Allegro. The keys are [positive | negative]; T5 runs with a mask."""

    name = "allegro"
    denoisers = ("AllegroTransformer3DModel",)
    pipelines = ("AllegroPipeline",)
    roles = ((r"transformer_blocks\.\d+\.attn2", Role("cross")),)
    text_mask = "encoder_attention_mask"
    conditions = ("encoder_hidden_states", "encoder_attention_mask")
    guidance = "batch"
    guides_above_one = True
    clip_rate = 15

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of T5, its end mark included."""
        return encode_plain(pipe, text)

    def text_of(self, arguments: CallArguments) -> Tokens:
        """Return the text without the axis of length 1 that the pipeline puts in front of its tokens."""
        return arguments[self.text].flatten(1, -2)

    def inject(self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows, layout: str) -> Injection:
        """Append the negatives to the text without that axis; the model takes it either way."""
        return super().inject(denoiser, {**arguments, self.text: self.text_of(arguments)}, negative, layout)

    def clip_frames(
        self, denoiser: Denoiser, pipe: Pipeline | None, arguments: CallArguments, frames: int
    ) -> tuple[int, ...]:
        """Take every latent frame, the first one too, for four frames of the clip."""
        return (self.clip_ratio,) * frames
