"""MiniMax-H3: text, key frames, sound and video in one packed sequence, with a refiner for the text in front."""

from dataclasses import replace

import torch
from torch import Tensor

from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Family, Injection, Role, require_encoders
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.layouts.positions import token_ranks
from vsf.text.embeddings import NegativeRows

_TEXT = 1
"""The kind of a row that is text; the kind picks a row's modulation."""

_IN_CHUNK = (1, 4, 4, 4, 4)
"""Frames of the clip to each latent frame of a chunk."""


class MiniMaxH3(Family):
    """MiniMax-H3, from texts, key frames or references, which has modular pipelines alone.

    The sequence is [negative | positive | key frames or references | sound | video]. Each text's tokens stand at the
    times 0, 1, 2, ...; everything else stands where the positive ends. Every row of the sequence is described by its
    position, its kind and its noise level, and found by its index. A mask does not concern the sound, which is guided
    in any case, and leaves key frames and references unguided.
    """

    name = "minimax_h3"
    denoisers = ("MiniMaxH3Transformer3DModel",)
    pipelines = ("MiniMaxH3ModularPipeline",)
    encodes_from_parts = True
    negatives_first = True
    shares_sound_layers = True
    clip_rate = 24
    roles = (
        (r"transformer_blocks\.\d+\.attn", Role("joint", image="last")),
        (r"token_refiner\.refiner_blocks\.\d+\.attn", Role("text")),
    )

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the language model's rows of the text alone, which has no marks and no template."""
        require_encoders(pipe, "text_encoder", "tokenizer", "processor")
        from diffusers.modular_pipelines.minimax_h3.encoders import get_qwen3vl_prompt_embeds

        read = pipe.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        with torch.no_grad():
            rows: Tensor = get_qwen3vl_prompt_embeds(
                pipe.text_encoder,
                pipe.processor,
                read["input_ids"],
                text_encoder_layer=pipe.text_encoder_layer,
                device=pipe._execution_device,
                dtype=pipe.text_encoder.dtype,
            )
        special = torch.zeros(rows.shape[1], dtype=torch.bool, device=rows.device)
        return Encoded(rows[0], special, read["offset_mapping"])

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Return the grid of the video that is made: the rows behind the sound that is made with it."""
        sound = arguments["audio_indices"]
        first = int(sound[-1]) + 1
        before = first - arguments[self.text].shape[1]
        levels = arguments["timestep_indices"][sound]
        sound_tokens = int((levels == levels[-1]).sum())  # the sound of references is clean
        return replace(Grid.of_coordinates(arguments["position_ids"][first:].T), before=before, sound=sound_tokens)

    def clip_frames(
        self, denoiser: Denoiser, pipe: Pipeline | None, arguments: CallArguments, frames: int
    ) -> tuple[int, ...]:
        """Return the frames of the clip in each latent frame: the autoencoder makes five of 17 frames at a time."""
        return tuple(_IN_CHUNK[frame % len(_IN_CHUNK)] for frame in range(frames))

    def inject(self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows, layout: str) -> Injection:
        """Put the negatives in front: as text, at times of their own, at the noise level that the positive has."""
        added = negative.embeddings.shape[1]
        positions = arguments["position_ids"]
        of_negatives = positions.new_zeros(added, positions.shape[1])
        of_negatives[:, 0] = token_ranks(negative.spans, positions.device)
        kinds = arguments["token_tags"]
        levels = arguments["timestep_indices"]
        text_rows = arguments["text_indices"]
        changed = {
            **arguments,
            "position_ids": torch.cat([of_negatives, positions]),
            "token_tags": torch.cat([kinds.new_full((added,), _TEXT), kinds]),
            "timestep_indices": torch.cat([levels[text_rows[:1]].expand(added), levels]),
            "text_indices": torch.cat([torch.arange(added, device=text_rows.device), text_rows + added]),
            "video_indices": arguments["video_indices"] + added,
            "audio_indices": arguments["audio_indices"] + added,
        }
        return super().inject(denoiser, changed, negative, layout)
