"""U-Nets that mix text tokens before the attention, so that a negative would change the positive prompt."""

from vsf.errors import UnsupportedPipelineError
from vsf.families.base.host import Denoiser

_ALLOWED = {
    "addition_embed_type": ((None, "text_time", "time"), "its time embedding is made from text or image tokens"),
    "encoder_hid_dim_type": (
        (None, "text_proj", "text_proj_rms", "ip_image_proj"),
        "image tokens stand among its text tokens",
    ),
    "cross_attention_norm": ((None, "layer_norm"), "it normalises all text tokens together"),
}
"""Settings of a U-Net: the values that keep text tokens apart, and what any other value does."""


def check_unet(unet: Denoiser) -> None:
    """Raise UnsupportedPipelineError, with the reason, for a U-Net that cannot be guided."""
    for name, (allowed, reason) in _ALLOWED.items():
        value = unet.config.get(name)
        if value not in allowed:
            raise UnsupportedPipelineError(f"a U-Net with {name}={value!r} cannot be guided: {reason}")
    if any(getattr(part, "added_kv_proj_dim", None) for part in unet.modules()):
        raise UnsupportedPipelineError(
            "a U-Net with added_kv_proj_dim cannot be guided: its image tokens attend to the text and to each other "
            "in one layer, in which the text has no rows of its own"
        )
