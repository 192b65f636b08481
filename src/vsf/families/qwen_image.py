"""Qwen-Image: two text streams in joint attention, text tokens first, with rotary positions behind the picture's."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Family, Overrides, Role, Running, require_encoders
from vsf.patching.swaps import calls_swapped
from vsf.text.embeddings import TokenizeTemplate

_PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"


class QwenImage(Family):
    """Qwen-Image, -Edit and -Layered.

    The token sequence is [negative | positive | image | reference images]. Text positions start where those of the
    picture end, for each negative anew. Texts of one length come without a mask. The last tokens of a text are its
    template's.
    """

    name = "qwen_image"
    denoisers = ("QwenImageTransformer2DModel",)
    negatives_first = True
    roles = ((r"transformer_blocks\.\d+\.attn", Role("joint", image="last")),)
    text_mask = "encoder_hidden_states_mask"
    conditions = ("encoder_hidden_states", "encoder_hidden_states_mask")

    def encode(self, pipe: Any, text: str) -> Encoded:
        """The text alone: the place that Edit's template keeps for a picture is left out."""
        require_encoders(pipe, "text_encoder", "tokenizer")
        words = TokenizeTemplate(text, without=_PICTURE)
        used = [pipe.tokenizer, getattr(getattr(pipe, "processor", None), "tokenizer", pipe.tokenizer)]
        with torch.no_grad(), calls_swapped((each, words) for each in {id(each): each for each in used}.values()):
            embeddings, _ = pipe.encode_prompt(text)
        return Encoded(embeddings[0], words.special[-embeddings.shape[1] :].to(embeddings.device), words.characters)

    def grid(self, denoiser: Any, arguments: Mapping[str, Any]) -> Grid:
        """The first shape is the picture's; Layered has one for every layer, and one of the condition at the end."""
        shapes = arguments["img_shapes"][0]
        shapes = shapes if isinstance(shapes, list) else [shapes]
        frames, height, width = shapes[0]
        return Grid(height, width, len(shapes) - 1 if denoiser.config.use_layer3d_rope else frames)

    def overrides(self, denoiser: Any, running: Running) -> Overrides:
        """Let the positions of each negative start where the positive's do."""

        def positions(original: Any, rope: object, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
            image, text = original(rope, *args, **kwargs)
            injection = running()
            if injection is None:
                return image, text
            return image, torch.cat([text[: span.length] for span in injection.text[0]])

        return [(denoiser.pos_embed, {"__call__": positions})]
