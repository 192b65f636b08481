"""Cosmos: image tokens attend to a text that is filled up with tokens which they see, too."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from vsf.families.base.family import Encoded, Family, Injection, Role, Tokens
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.encoders.chat import encode_chat
from vsf.families.encoders.plain import char_offsets, encode_plain
from vsf.text.embeddings import NegativeRows
from vsf.text.token_weights import Characters


class Cosmos(Family):
    """Cosmos 1, Predict 2 and 2.5, and Transfer 2.5.

    The keys are [positive | negative]. Up to Predict 2 the text is T5's, filled up to 512 tokens with zeros. From 2.5
    on it is a chat, filled up with tokens that the language model reads, too; none of them changes those before it. The
    text may come with an image for an attention call of its own: (text, image).
    """

    name = "cosmos"
    denoisers = ("CosmosTransformer3DModel",)
    pipelines: ClassVar[tuple[str, ...]] = (
        "CosmosTextToWorldPipeline",
        "CosmosVideoToWorldPipeline",
        "Cosmos2TextToImagePipeline",
        "Cosmos2VideoToWorldPipeline",
        "Cosmos2_5_PredictBasePipeline",
        "Cosmos2_5_TransferPipeline",
    )
    roles = ((r"transformer_blocks\.\d+\.attn2", Role("cross")),)
    clip_rate: ClassVar[float | None] = 16
    in_sections = ("Cosmos2_5_TransferPipeline",)
    text_mask = "attention_mask"
    conditions = ("encoder_hidden_states", "attention_mask")

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of T5 without the zeros, or the tokens of the chat."""
        if not _reads_chat(pipe):
            return encode_plain(pipe, text)
        return encode_chat(pipe, text, lambda: pipe.encode_prompt(text, do_classifier_free_guidance=False)[0][0])

    def characters(self, pipe: Pipeline, text: str) -> Characters:
        """Return the characters of T5's tokens, at the full length of 512. Raises KnobError for a chat."""
        return super().characters(pipe, text) if _reads_chat(pipe) else char_offsets(pipe, text, 512)

    def inject(self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows, layout: str) -> Injection:
        """Append the negatives to the text; an image beside it stays as it is."""
        text = arguments[self.text]
        injection = super().inject(denoiser, {**arguments, self.text: self.text_of(arguments)}, negative, layout)
        if not isinstance(text, tuple):
            return injection
        with_image = (injection.arguments[self.text], *text[1:])
        return replace(injection, arguments={**injection.arguments, self.text: with_image})

    def text_of(self, arguments: CallArguments) -> Tokens:
        """Return the text tokens, without an image beside them."""
        text: Tensor | tuple[Tensor, ...] = arguments[self.text]
        return text[0] if isinstance(text, tuple) else text

    def texts_of(self, arguments: CallArguments) -> Sequence[Tensor]:
        """Return the text of each row, without an image beside it."""
        return list(self.text_of(arguments))


def _reads_chat(pipe: Pipeline) -> bool:
    """Tell whether the prompt is put into a chat; T5 has no template for one."""
    return getattr(pipe.tokenizer, "chat_template", None) is not None
