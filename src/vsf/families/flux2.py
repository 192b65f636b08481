"""FLUX.2: text tokens first, in double and in fused single blocks, with positions of their own."""

from dataclasses import replace

from vsf.attention.layout import Span
from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Injection
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.positioned import FluxLike
from vsf.text.embeddings import NegativeRows


class Flux2(FluxLike):
    """FLUX.2 dev, klein and klein KV.

    The i-th text token has position i on an axis of its own, and so has that of each negative. Pipelines pad the text
    to 512 tokens, which take part in the attention. The text is a chat: some of its tokens are the template's.

    klein KV puts reference images between text and image. They attend to themselves alone, so that their keys, kept
    from the first step on, are those of any text: [negative | positive | kept | image].
    """

    name = "flux2"
    denoisers = ("Flux2Transformer2DModel",)
    pipelines = ("Flux2Pipeline", "Flux2KleinPipeline", "Flux2KleinInpaintPipeline", "Flux2KleinKVPipeline")
    counting = (3,)

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the tokens of the chat as the pipeline writes it."""
        return encode_chat(pipe, text, lambda: pipe.encode_prompt(text)[0][0])

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Return the grid of the picture, in front of which references stand while their keys are made."""
        positions = arguments["img_ids"][..., _references_in(arguments) :, :]
        return super().grid(denoiser, {**arguments, "img_ids": positions})

    def inject(self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows, layout: str) -> Injection:
        """Put the negatives in front; reference images whose keys are kept have no rows in the guided call."""
        injection = super().inject(denoiser, arguments, negative, layout)
        references = _references_in(arguments)
        kept = references
        if arguments.get("kv_cache_mode") == "cached":
            kept = arguments["kv_cache"].num_ref_tokens
        if not kept:
            return injection
        image = Span("image", arguments["hidden_states"].shape[1] - references)
        return replace(injection, text=((*injection.text[0], Span("kept", kept), image),))


def _references_in(arguments: CallArguments) -> int:
    """Return how many tokens of reference images a denoiser call makes kept keys of; they come before the picture's."""
    return arguments.get("num_ref_tokens", 0) if arguments.get("kv_cache_mode") == "extract" else 0
