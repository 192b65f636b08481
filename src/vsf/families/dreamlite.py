"""DreamLite: a small U-Net with the text of a language model, and a picture to edit beside the latents."""

from torch import Tensor

from vsf.controls.grid import Grid
from vsf.errors import KnobError
from vsf.families.base.family import Encoded, Family, class_names, halves
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.encoders.chat import encode_chat
from vsf.families.unet import UNet
from vsf.text.token_weights import Characters


class DreamLite(UNet):
    """DreamLite and DreamLite-Mobile, from texts or pictures.

    The keys are [positive | negative], padding is masked. A prompt about a picture is read together with it, and a
    negative alone, as the negative prompts of pictures without one are.
    """

    name = "dreamlite"
    denoisers = ("DreamLiteUNetModel",)
    pipelines = ("DreamLitePipeline", "DreamLiteMobilePipeline")
    conditions = ("encoder_hidden_states", "encoder_attention_mask")

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of Qwen behind the beginning of its template; the end of the template comes along."""

        def encode() -> Tensor:
            embeddings, _ = pipe.encode_prompt(
                "generate", [text], pipe._execution_device, pipe.text_encoder.dtype, max_sequence_length=200
            )
            return embeddings[0]

        return encode_chat(pipe, text, encode)

    def characters(self, pipe: Pipeline, text: str) -> Characters:
        """Raise KnobError: where a prompt begins depends on the picture that is read with it."""
        return Family.characters(self, pipe, text)

    def conditional_rows(self, pipe: Pipeline | None, arguments: CallArguments) -> list[bool]:
        """Return the last half of the rows; of an edit's three rows the last, and in Mobile all."""
        rows = self.row_count(arguments)
        if pipe is None or any("Mobile" in name for name in class_names(pipe)):
            return [True] * rows
        return [False, False, True] if rows == 3 else halves(rows)

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Raise KnobError: the picture to edit, or its empty place, stands beside the latents."""
        raise KnobError(
            'mask=, observe= and scale="auto" do not work with DreamLite, in which another picture stands beside the '
            "one that is drawn: leave them out"
        )
