"""CogVideoX: joint attention, text tokens first."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Family, Overrides, Role, Running, halves
from vsf.families.encoders.plain import characters_read, encode_plain
from vsf.text.token_weights import Characters


class CogVideoX(Family):
    """CogVideoX 2b, 5b and 1.5, text- and image-to-video.

    The token sequence is [negative | positive | video]. Pipelines pad T5's text to 226 tokens, which take part in the
    attention, and T5 has no mask. 2b and the 5b for images add positions to a text of just that length.
    """

    name = "cogvideox"
    denoisers = ("CogVideoXTransformer3DModel",)
    negatives_first = True
    roles = ((r"transformer_blocks\.\d+\.attn1", Role("joint", image="last")),)
    guidance = "batch"

    def encode(self, pipe: Any, text: str) -> Encoded:
        """Rows of T5, its end mark included."""
        return encode_plain(pipe, text)

    def characters(self, pipe: Any, text: str) -> Characters:
        """T5's tokens, as many as there may be."""
        return characters_read(pipe, text, 226)

    def conditional_rows(self, pipe: Any, arguments: Mapping[str, Any]) -> list[bool]:
        """The pipelines tell their scale only, and make one video of a prompt, however many are asked for."""
        rows = self.row_count(arguments)
        return halves(rows) if pipe is not None and pipe.guidance_scale > 1 else [True] * rows

    def grid(self, denoiser: Any, arguments: Mapping[str, Any]) -> Grid:
        """The latents cut into patches, in 1.5 over two frames each."""
        (frames, _, height, width), size = arguments["hidden_states"].shape[1:], denoiser.config.patch_size
        return Grid(height // size, width // size, frames // (denoiser.config.patch_size_t or 1))

    def overrides(self, denoiser: Any, running: Running) -> Overrides:
        """Embed positive and negatives one by one, each as long as the positive where positions ask for it."""

        def embed(original: Any, module: Any, text: Tensor, video: Tensor) -> Tensor:
            injection = running()
            if injection is None:
                return original(module, text, video)
            *negatives, positive = text.split([span.length for span in injection.text[0]], 1)
            full, length = original(module, positive, video), positive.shape[1]
            fixed = module.use_positional_embeddings or module.use_learned_positional_embeddings
            filled = [F.pad(own, (0, 0, 0, length - own.shape[1])) if fixed else own for own in negatives]
            rows = [original(module, one, video)[:, : own.shape[1]] for one, own in zip(filled, negatives, strict=True)]
            return torch.cat([*rows, full], 1)

        return [(denoiser.patch_embed, {"__call__": embed})]
