"""Krea 2: one stream of text and image tokens, text first, with a refiner for the text in front."""

from dataclasses import replace

import torch

from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Family, Injection, Role, Tokens, require_encoders
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.text.embeddings import NegativeRows


class Krea2(Family):
    """Krea 2.

    The token sequence is [negative | positive | image]; all text has position 0. A text token is a stack of the
    encoder's layers, here packed into one row; the model fuses them and lets the text attend to itself. Pipelines pad
    in the middle of a chat template, and mask the padding.
    """

    name = "krea2"
    denoisers = ("Krea2Transformer2DModel",)
    pipelines = ("Krea2Pipeline",)
    negatives_first = True
    roles = (
        (r"transformer_blocks\.\d+\.attn", Role("joint", image="last")),
        (r"text_fusion\.refiner_blocks\.\d+\.attn", Role("text")),
    )
    text_mask = "encoder_attention_mask"
    conditions = ("encoder_hidden_states", "encoder_attention_mask")

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the tokens that the pipeline does not mask; the last of them are the template's."""
        require_encoders(pipe, "text_encoder", "tokenizer")
        with torch.no_grad():
            stacks, mask = pipe.encode_prompt(text)
        embeddings = stacks[0, mask[0]].flatten(1)
        ranks = torch.arange(len(embeddings), device=embeddings.device)
        return Encoded(embeddings, ranks >= len(embeddings) - pipe.prompt_template_encode_num_suffix_tokens)

    def text_of(self, arguments: CallArguments) -> Tokens:
        """Return the text with each token's layers side by side."""
        return arguments[self.text].flatten(2)

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Return the grid of the image tokens' positions, which stand behind those of the text."""
        return Grid.of_positions(arguments["position_ids"][arguments[self.text].shape[1] :])

    def inject(self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows, layout: str) -> Injection:
        """Put the negatives in front, stacked again, with as many positions."""
        ids = arguments["position_ids"]
        negative_ids = ids.new_zeros(negative.embeddings.shape[1], ids.shape[1])
        changed = {**arguments, "position_ids": self.joined(ids, negative_ids, 0)}
        stacks = negative.embeddings.unflatten(2, arguments[self.text].shape[2:])
        return super().inject(denoiser, changed, replace(negative, embeddings=stacks), layout)
