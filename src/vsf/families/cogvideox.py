"""CogVideoX: joint attention, text tokens first."""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vsf.controls.clock import causal_frames
from vsf.controls.grid import Grid
from vsf.families.base.clip import frames_per_latent, told_length
from vsf.families.base.family import Encoded, Family, Overrides, Role, Running
from vsf.families.base.host import CallArguments, Denoiser, Original, Pipeline
from vsf.families.base.patches import patch_grid
from vsf.families.encoders.plain import char_offsets, encode_plain
from vsf.text.token_weights import Characters


class CogVideoX(Family):
    """CogVideoX 2b, 5b and 1.5, text- and image-to-video.

    The token sequence is [negative | positive | video]. Pipelines pad T5's text to 226 tokens, which take part in the
    attention, and T5 has no mask. 2b and the 5b for images add positions to a text of exactly that length.
    """

    name = "cogvideox"
    denoisers: ClassVar[tuple[str, ...]] = ("CogVideoXTransformer3DModel",)
    pipelines: ClassVar[tuple[str, ...]] = (
        "CogVideoXPipeline",
        "CogVideoXImageToVideoPipeline",
        "CogVideoXVideoToVideoPipeline",
        "CogVideoXFunControlPipeline",
    )
    negatives_first = True
    roles = ((r"transformer_blocks\.\d+\.attn1", Role("joint", image="last")),)
    guidance = "batch"
    guides_above_one = True
    frames_first = True
    clip_rate = 8

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of T5, its end mark included."""
        return encode_plain(pipe, text)

    def characters(self, pipe: Pipeline, text: str) -> Characters:
        """Return the characters of T5's tokens, at the full length of 226."""
        return char_offsets(pipe, text, 226)

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Return the latents (batch, frames, channels, height, width) cut into patches, in 1.5 over two frames each."""
        _, frames, _, height, width = arguments["hidden_states"].shape
        side = denoiser.config.patch_size
        frames_of_a_token = getattr(denoiser.config, "patch_size_t", None) or 1
        return patch_grid((frames, height, width), (frames_of_a_token, side, side))

    def clip_frames(
        self, denoiser: Denoiser, pipe: Pipeline | None, arguments: CallArguments, frames: int
    ) -> tuple[int, ...]:
        """Take 1.5's tokens for two latent frames each, filled up in front to an even number of them."""
        ratio = frames_per_latent(pipe) or self.clip_ratio
        patch = getattr(denoiser.config, "patch_size_t", None) or 1
        latents = frames * patch
        length = told_length(pipe, arguments, usual=denoiser.config.sample_frames)
        filled = 0 if length is None else max(0, latents - ((length - 1) // ratio + 1))
        return causal_frames(latents, ratio, before=filled, patch=patch)

    def overrides(self, denoiser: Denoiser, running: Running) -> Overrides:
        """Embed positive and negatives one by one, each as long as the positive where positions ask for it."""

        def embed(original: Original, module: Any, text: Tensor, video: Tensor) -> Tensor:
            injection = running()
            if injection is None:
                return original(module, text, video)
            *negatives, positive = text.split([span.length for span in injection.text[0]], 1)
            length = positive.shape[1]
            # Positions are added to image and text at once, and only to a text of the length they were made for.
            has_positions = module.use_positional_embeddings or module.use_learned_positional_embeddings
            parts = []
            for negative in negatives:
                tokens = negative.shape[1]
                padded = F.pad(negative, (0, 0, 0, length - tokens)) if has_positions else negative
                parts.append(original(module, padded, video)[:, :tokens])
            positive_and_video = original(module, positive, video)
            return torch.cat([*parts, positive_and_video], 1)

        return [(denoiser.patch_embed, {"__call__": embed})]
