"""Lumina-Next: image tokens attend to Gemma's text, which is also pooled for the time embedding."""

from typing import Any

from torch import Tensor

from vsf.families.base.family import Encoded, Family, Overrides, Role, Running
from vsf.families.base.host import Denoiser, Original, Pipeline
from vsf.families.encoders.plain import encode_masked


class LuminaNext(Family):
    """Lumina-Next. The keys are [positive | negative]; the time embedding is made from the positive alone."""

    name = "lumina_next"
    denoisers = ("LuminaNextDiT2DModel",)
    pipelines = ("LuminaPipeline",)
    roles = ((r"layers\.\d+\.attn2", Role("cross")),)
    text_mask = "encoder_mask"
    conditions = ("encoder_hidden_states", "encoder_mask")
    guidance = "batch, conditional first"

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of Gemma."""
        return encode_masked(pipe, text, do_classifier_free_guidance=False)

    def overrides(self, denoiser: Denoiser, running: Running) -> Overrides:
        """Pool the tokens of the positive alone."""

        def embed(original: Original, module: object, time: Tensor, text: Tensor, mask: Tensor) -> Any:
            injection = running()
            if injection is not None:
                positive, *_ = injection.text[0]
                text = text[:, : positive.length]
                mask = mask[:, : positive.length]
            return original(module, time, text, mask)

        return [(denoiser.time_caption_embed, {"__call__": embed})]
