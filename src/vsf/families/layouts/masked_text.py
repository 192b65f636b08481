"""Transformers whose image tokens attend to one text, with a mask over its padding."""

from typing import ClassVar

from vsf.families.base.family import Family, Role


class MaskedText(Family):
    """A transformer with one text encoder; the keys are [positive | negative].

    Classifier-free guidance runs in one batch, unconditional rows first.
    """

    roles: ClassVar[tuple[tuple[str, Role], ...]] = ((r"transformer_blocks\.\d+\.attn2", Role("cross")),)
    text_mask = "encoder_attention_mask"
    conditions: ClassVar[tuple[str, ...]] = ("encoder_hidden_states", "encoder_attention_mask")
    guidance = "batch"
