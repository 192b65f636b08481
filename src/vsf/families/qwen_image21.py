"""Qwen-Image-2.1: text that never sees the image, and of which only the keys remain after the first step."""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from torch import nn

from vsf.controls.grid import Grid
from vsf.errors import KnobError, UnsupportedPipelineError
from vsf.families.base.family import Encoded, Family, Injection, Role
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.qwen_cache import host_spans, read_keys, require_own_call_of_image
from vsf.families.layouts.static_keys import StaticKeys
from vsf.guidance import Guidance
from vsf.text.embeddings import NegativeRows


class QwenImage21(Family):
    """Qwen-Image-2.1 and its Turbo.

    The keys are [positive, with condition pictures between | image | negative], and only image tokens are guided. Text
    sees what stands before it and nothing else, at a time of its own, so that the keys of a negative depend on neither
    picture nor step: the model makes them once, of the negative as a prompt, as it keeps those of its prompt.
    """

    name = "qwen_image21"
    denoisers = ("QwenImage21Transformer2DModel",)
    pipelines = ("QwenImage21Pipeline",)
    pipelines_since: ClassVar[Mapping[str, str]] = {"QwenImage21Pipeline": "0.41"}
    roles = ((r"transformer_blocks\.\d+\.attn", Role("cross")),)
    conditions = ("encoder_hidden_states", "encoder_hidden_states_mask", "img_mask", "kv_cache", "kv_cache_mode")

    def __init__(self) -> None:
        self._static_keys = StaticKeys()

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the tokens behind the system's, read without any picture; the end of the template comes along."""
        return encode_chat(pipe, text, lambda: pipe.encode_prompt(text)[0][0])

    def check(self, target: Pipeline | Denoiser, method: Guidance) -> None:
        """Check also that the text has a time of its own, and that the method calls the model once."""
        super().check(target, method)
        if method.model_calls == 2 and not isinstance(target, nn.Module):
            raise KnobError(
                f'method "{method.name}" mixes two outputs of the model, and those of {self.name} have a row for each '
                "token of their text: use the pipeline's own true_cfg_scale= and negative_prompt="
            )
        for denoiser in self.denoisers_of(target):
            inner: Any = getattr(denoiser, "_orig_mod", denoiser)
            if not inner.config.causal_condition:
                raise UnsupportedPipelineError("with causal_condition=False no text has keys that hold for every step")

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Return the grid of the last shape; those before are the condition pictures'."""
        frames, height, width = arguments["img_shapes"][0][-1]
        return Grid(height, width, frames)

    def inject(self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows, layout: str) -> Injection:
        """Leave the arguments as they are, and hand over the negatives' keys.

        Raises:
            UnsupportedAttentionError: text and image attend in one call.
        """
        anew = arguments.get("kv_cache_mode") != "cached"
        if anew:
            require_own_call_of_image(denoiser)
        spans = (*host_spans(arguments), *negative.spans)
        read = partial(read_keys, denoiser, arguments)
        keys = self._static_keys.of(negative, read, kept=arguments.get("kv_cache"), anew=anew)
        valid = negative.valid(negative.embeddings.shape[1])
        return Injection(dict(arguments), (spans,), valid, negative.weights, negative_keys=keys)
