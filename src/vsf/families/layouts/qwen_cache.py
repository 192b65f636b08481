"""The keys that Qwen-Image-2.1 keeps of its text, and how they lie beside the image's."""

from itertools import groupby
from math import prod

import torch

from vsf.attention.layout import Span
from vsf.errors import KnobError, UnsupportedAttentionError
from vsf.families.base.family import Tokens, class_names
from vsf.families.base.host import CallArguments, Denoiser
from vsf.families.layouts.static_keys import KeysOfLayers

_PLACE = 4
"""Image tokens for each place that the text keeps for a picture."""


def host_spans(arguments: CallArguments) -> tuple[Span, ...]:
    """Return the spans of a call's keys: positive, with condition pictures between, then the image."""
    image = prod(arguments["img_shapes"][0][-1])
    places = arguments["img_mask"][0].tolist()
    prefix = []
    for is_picture, run in groupby(places[: len(places) - image // _PLACE]):
        length = len(list(run))
        prefix.append(Span("kept", _PLACE * length) if is_picture else Span("positive", length))
    return (*prefix, Span("image", image))


def require_own_call_of_image(denoiser: Denoiser) -> None:
    """Raise UnsupportedAttentionError where the image attends in one call with the text, which compiled code hides."""
    for block in denoiser.transformer_blocks:
        if "QwenImage21FlexAttnProcessor" in class_names(block.attn.processor):
            raise UnsupportedAttentionError(
                "QwenImage21FlexAttnProcessor lets text and image attend in one call, of which the image's part cannot "
                "be guided: call set_attn_processor(QwenImage21AttnProcessor())"
            )


def read_keys(denoiser: Denoiser, arguments: CallArguments, text: Tokens) -> KeysOfLayers:
    """Let the model read a text as the prompt of a picture of one place, and take its keys.

    Raises:
        KnobError: a step cache would take this call for a step.
    """
    from diffusers.models.transformers.transformer_qwenimage21 import QwenImage21KVCache

    if getattr(denoiser, "is_cache_enabled", False):
        raise KnobError("a step cache would take the call that reads a negative for a step: call disable_cache()")
    rows, tokens, _ = text.shape
    is_picture = torch.arange(tokens + 1, device=text.device).expand(rows, -1) == tokens
    cache = QwenImage21KVCache(len(denoiser.transformer_blocks))
    inputs = {"kv_cache": cache, "kv_cache_mode": "extract", "img_shapes": [[(1, 2, 2)]] * rows, "img_mask": is_picture}
    latents = text.new_zeros(rows, _PLACE, denoiser.config.in_channels)
    unchanged = {name: arguments.get(name) for name in ("timestep", "attention_kwargs")}
    # Past `__call__`: this is no step, of which hooks and compiled code would have to know.
    denoiser.forward(hidden_states=latents, encoder_hidden_states=text, **inputs, **unchanged)
    keys = {}
    for number, layer in enumerate(cache.layer_caches):
        key, value = layer.get()
        keys[f"transformer_blocks.{number}.attn"] = key.transpose(1, 2), value.transpose(1, 2)
    return keys
