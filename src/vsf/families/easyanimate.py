"""EasyAnimate: joint attention, text tokens first."""

from vsf.controls.grid import Grid
from vsf.errors import LayoutError
from vsf.families.base.family import Encoded, Family, Injection, Role
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.base.patches import patch_grid
from vsf.families.encoders.chat import encode_chat
from vsf.text.embeddings import NegativeRows


class EasyAnimate(Family):
    """EasyAnimate 5.1, from texts or pictures.

    The token sequence is [negative | positive | video]; text has no positions. Pipelines pad a chat behind its end to
    256 tokens, which take part in the attention; the language model sees no token before its time.
    """

    name = "easyanimate"
    denoisers = ("EasyAnimateTransformer3DModel",)
    pipelines = ("EasyAnimatePipeline", "EasyAnimateInpaintPipeline")
    negatives_first = True
    roles = ((r"transformer_blocks\.\d+\.attn1", Role("joint", image="last")),)
    guidance = "batch"
    clip_rate = 8

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the tokens of the language model, with those of the chat's frame, which every prompt has."""
        return encode_chat(pipe, text, lambda: pipe.encode_prompt(text, do_classifier_free_guidance=False)[0][0])

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Return the latents (batch, channels, frames, height, width) cut into patches of one frame."""
        side = denoiser.config.patch_size
        return patch_grid(arguments["hidden_states"].shape[-3:], (1, side, side))

    def inject(self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows, layout: str) -> Injection:
        """Put the negatives in front of the one text.

        Raises:
            LayoutError: there is a second text, which no pipeline of diffusers gives.
        """
        if arguments.get("encoder_hidden_states_t5") is not None:
            raise LayoutError("EasyAnimate is guided with one text, without encoder_hidden_states_t5")
        return super().inject(denoiser, arguments, negative, layout)
