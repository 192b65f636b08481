"""Anima: Cosmos' transformer, whose text is made of T5's tokens and of a language model's."""

import torch
from torch import nn

from vsf.families.base.family import Encoded, class_names, require_encoders
from vsf.families.base.host import Denoiser, Pipeline
from vsf.families.cosmos import Cosmos
from vsf.families.encoders.plain import char_offsets_verbatim
from vsf.text.token_weights import Characters


class Anima(Cosmos):
    """Anima, which has a modular pipeline alone.

    A conditioner makes a row of each of T5's tokens, which reads the rows of Qwen3; zeros fill the text up to 512 rows.
    """

    name = "anima"
    pipelines = ("AnimaModularPipeline",)
    encodes_from_parts = True
    clip_rate = None

    def denoisers_of(self, target: Pipeline | Denoiser) -> list[nn.Module]:
        """Return the transformer of an Anima pipeline; a transformer on its own cannot be told from Cosmos'."""
        is_anima = any(name.startswith("Anima") for name in class_names(target))
        return super().denoisers_of(target) if is_anima else []

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the conditioner's rows of T5's tokens, without the zeros."""
        require_encoders(pipe, "text_encoder", "tokenizer", "t5_tokenizer", "text_conditioner")
        from diffusers.modular_pipelines.anima.encoders import AnimaTextEncoderStep

        conditioner = pipe.text_conditioner
        with torch.no_grad():
            read = AnimaTextEncoderStep.encode_prompt(pipe, text, prepare_unconditional_embeds=False)
            rows = conditioner(
                source_hidden_states=read["qwen_prompt_embeds"].to(conditioner.dtype),
                source_attention_mask=read["qwen_attention_mask"],
                target_input_ids=read["t5_input_ids"],
                target_attention_mask=read["t5_attention_mask"],
            )
        tokens = read["t5_input_ids"][0]
        return Encoded(rows[0, : len(tokens)], tokens == pipe.t5_tokenizer.eos_token_id)

    def characters(self, pipe: Pipeline, text: str) -> Characters:
        """Return the characters of T5's tokens, at the full length of 512."""
        return char_offsets_verbatim(pipe, text, pipe.t5_tokenizer, 512)
