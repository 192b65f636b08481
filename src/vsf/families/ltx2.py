"""LTX-2: video tokens attend to one text, audio tokens to another, both made from the same prompt."""

from dataclasses import replace
from typing import ClassVar

import torch

from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Injection, Role, Tokens, require_encoders
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.base.masks import extend_mask
from vsf.families.base.patches import patch_grid, patch_sizes
from vsf.families.encoders.plain import accepted_kwargs
from vsf.families.layouts.masked_text import MaskedText
from vsf.patching.swaps import calls_swapped
from vsf.text.embeddings import NegativeRows, TokenizeUnpadded

_AUDIO = "audio_encoder_hidden_states"
_AUDIO_MASK = "audio_encoder_attention_mask"


class Ltx2(MaskedText):
    """LTX-2 and 2.3. Registers fill the positive up; a negative's two texts stand side by side in its channels."""

    name = "ltx2"
    denoisers = ("LTX2VideoTransformer3DModel",)
    pipelines = (
        "LTX2Pipeline",
        "LTX2ImageToVideoPipeline",
        "LTX2ConditionPipeline",
        "LTX2InContextPipeline",
        "LTX2HDRPipeline",
        "LTX2DFRPipeline",
        "LTX2DFRTemporalRefinePipeline",
    )
    pipelines_since: ClassVar[dict[str, str]] = {
        "LTX2DFRPipeline": "0.41",
        "LTX2DFRTemporalRefinePipeline": "0.41",
    }
    roles = (
        (r"transformer_blocks\.\d+\.attn2", Role("cross")),
        (r"transformer_blocks\.\d+\.audio_attn2", Role("cross", picture=False)),
    )
    clip_rate = 24
    clip_ratio = 8
    in_sections = ("LTX2DFRPipeline", "LTX2DFRTemporalRefinePipeline")
    conditions = ("encoder_hidden_states", _AUDIO, "encoder_attention_mask", _AUDIO_MASK)

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return both texts that the connectors make of Gemma's; they put the real ones of its 1024 tokens first."""
        require_encoders(pipe, "text_encoder", "tokenizer", "connectors")
        # Padded all the same, because the connectors put their registers where the padding is.
        tokens = TokenizeUnpadded(1024)
        options = accepted_kwargs(pipe, do_classifier_free_guidance=False)
        with torch.no_grad(), calls_swapped([(pipe.tokenizer, tokens)]):
            embeddings, mask, *_ = pipe.encode_prompt(text, **options)
            video, audio, _ = pipe.connectors(embeddings, mask, padding_side=pipe.tokenizer.padding_side)
        special = tokens.special[0].to(mask.device)[mask[0].bool()]
        return Encoded(torch.cat([video, audio], -1)[0, : len(special)], special)

    def text_of(self, arguments: CallArguments) -> Tokens:
        """Return both texts, side by side in the channels."""
        return torch.cat([arguments[self.text], arguments[_AUDIO]], -1)

    def conditional_rows(self, pipe: Pipeline | None, arguments: CallArguments) -> list[bool]:
        """Take all rows of extra calls, which perturb attention or part picture and sound, to be conditional."""
        is_extra = arguments.get("spatio_temporal_guidance_blocks") or arguments.get("isolate_modalities")
        return super().conditional_rows(None if is_extra else pipe, arguments)

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Return the video's latents cut into patches; key frames and references stand behind them."""
        if arguments.get("height") is None:
            return Grid.of_coordinates(arguments["video_coords"][0, ..., 0])
        latents = (arguments["num_frames"], arguments["height"], arguments["width"])
        return patch_grid(latents, patch_sizes(denoiser.config))

    def inject(self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows, layout: str) -> Injection:
        """Append the negatives to both texts."""
        video, audio = negative.embeddings.tensor_split([arguments[self.text].shape[-1]], -1)
        changed = {**arguments, _AUDIO: torch.cat([arguments[_AUDIO], audio], 1)}
        if arguments.get(_AUDIO_MASK) is not None:
            changed[_AUDIO_MASK] = extend_mask(arguments[_AUDIO_MASK], audio.shape[1])
        return super().inject(denoiser, changed, replace(negative, embeddings=video), layout)
