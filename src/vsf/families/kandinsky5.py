"""Kandinsky 5: a refiner over the text tokens, then image tokens that attend to them."""

import torch

from vsf.families.base.family import Encoded, Family, Injection, Role, require_encoders
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.positions import token_ranks
from vsf.text.embeddings import NegativeRows


class Kandinsky5(Family):
    """Kandinsky 5, video and image, Lite and Pro.

    The text is [positive | negative] in the refiner and for the image tokens. Its rotary positions start at 0, for each
    negative anew. CLIP's pooled embedding stays the positive's.
    """

    name = "kandinsky5"
    denoisers = ("Kandinsky5Transformer3DModel",)
    pipelines = ("Kandinsky5T2VPipeline", "Kandinsky5I2VPipeline", "Kandinsky5T2IPipeline")
    roles = (
        (r"text_transformer_blocks\.\d+\.self_attention", Role("text")),
        (r"visual_transformer_blocks\.\d+\.cross_attention", Role("cross")),
    )
    conditions = ("encoder_hidden_states", "pooled_projections", "text_rope_pos")
    channels_last = True
    clip_rate = 24

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of Qwen behind the beginning of its template; the end of the template comes along.

        The pipeline tokenizes a text without a limit before it cuts it off, so tokens are counted from the beginning.
        """
        require_encoders(pipe, "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
        start = pipe.prompt_template_encode_start_idx
        return encode_chat(pipe, text, lambda: pipe.encode_prompt(text)[0][0], start=start)

    def inject(self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows, layout: str) -> Injection:
        """Append the negatives and their positions."""
        positions = arguments["text_rope_pos"]
        negative_positions = token_ranks(negative.spans, positions.device).to(positions.dtype)
        changed = {**arguments, "text_rope_pos": torch.cat([positions, negative_positions])}
        return super().inject(denoiser, changed, negative, layout)
