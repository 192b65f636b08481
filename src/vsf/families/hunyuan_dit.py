"""HunyuanDiT: image tokens attend to the rows of BERT and of T5 in one text of fixed length."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from vsf.attention.layout import Span
from vsf.families.base.family import Encoded, NegativeStream, Role, Tokens, require_encoders
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.encoders.plain import encode_unpadded
from vsf.families.layouts.per_block import PerBlock


class HunyuanDiT(PerBlock):
    """HunyuanDiT.

    The keys are [BERT | T5 | negative]. The text has 77 rows of BERT and 256 of T5, padding replaced by learned ones,
    and the time embedding is pooled from T5's. So the negatives are embedded on their own, and join in the blocks.
    """

    name = "hunyuan_dit"
    denoisers = ("HunyuanDiT2DModel",)
    pipelines = ("HunyuanDiTPipeline", "HunyuanDiTControlNetPipeline")
    roles = ((r"blocks\.\d+\.attn2", Role("cross")),)
    blocks = ("blocks",)
    text_mask = "text_embedding_mask"
    conditions = (
        "encoder_hidden_states",
        "text_embedding_mask",
        "encoder_hidden_states_t5",
        "text_embedding_mask_t5",
    )
    guidance = "batch"

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of BERT, then those of T5, each in channels of its own: those of the other are zero."""
        require_encoders(pipe, "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
        bert, t5 = (self._encode_with(pipe, text, index) for index in range(2))
        rows = torch.block_diag(bert.embeddings, t5.embeddings)
        return Encoded(rows, torch.cat([bert.special, t5.special]))

    def text_of(self, arguments: CallArguments) -> Tokens:
        """Return no token, because BERT and T5 have different numbers of them, but the channels of both."""
        return torch.cat([arguments[self.text][:, :0], arguments["encoder_hidden_states_t5"][:, :0]], -1)

    def row_count(self, arguments: CallArguments) -> int:
        """Count the rows of BERT's text."""
        return len(arguments[self.text])

    def spans(self, denoiser: Denoiser, arguments: CallArguments) -> Iterable[tuple[Span, ...]]:
        """Return the text of both encoders with its learned padding."""
        tokens = arguments[self.text].shape[1] + arguments["encoder_hidden_states_t5"].shape[1]
        return [(Span("positive", tokens),)]

    def embed(
        self, denoiser: Denoiser, arguments: CallArguments, tokens: Tokens, real: Bool[Tensor, "batch tokens"]
    ) -> Tokens:
        """Project the rows of T5; those of BERT are used as they are."""
        bert_channels = arguments[self.text].shape[-1]
        bert = tokens[..., :bert_channels]
        t5 = tokens[..., bert_channels:]
        is_t5 = (t5 != 0).any(-1, keepdim=True)
        return torch.where(is_t5, denoiser.text_embedder(t5), bert)

    def call_block(self, block: Callable[..., Any], stream: NegativeStream, *args: Any, **kwargs: Any) -> Any:
        """Lengthen the text, which the blocks leave as it is."""
        text = kwargs.pop("encoder_hidden_states")
        return block(*args, encoder_hidden_states=torch.cat([text, stream.enter()], 1), **kwargs)

    def _encode_with(self, pipe: Pipeline, text: str, index: int) -> Encoded:
        """Encode with BERT (0) or T5 (1)."""
        options = {"do_classifier_free_guidance": False, "text_encoder_index": index}
        tokenizer = (pipe.tokenizer, pipe.tokenizer_2)[index]
        return encode_unpadded(tokenizer, lambda: pipe.encode_prompt(text, **options)[0][0])
