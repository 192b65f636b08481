"""LTX-2: video tokens attend to one text, audio tokens to another, both made from the same prompt."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.nn.functional import pad

from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Injection, Role, require_encoders
from vsf.families.encoders.plain import taken
from vsf.families.layouts.masked import MaskedText
from vsf.patching.swaps import calls_swapped
from vsf.text.embeddings import NegativeRows, TokenizeUnpadded

_BLOCK = r"transformer_blocks\.\d+\."
_AUDIO, _AUDIO_MASK = "audio_encoder_hidden_states", "audio_encoder_attention_mask"


class Ltx2(MaskedText):
    """LTX-2 and 2.3. Registers fill the positive up; a negative's two texts stand side by side in its channels."""

    name = "ltx2"
    denoisers = ("LTX2VideoTransformer3DModel",)
    roles = ((_BLOCK + "attn2", Role("cross")), (_BLOCK + "audio_attn2", Role("cross", picture=False)))
    conditions = ("encoder_hidden_states", _AUDIO, "encoder_attention_mask", _AUDIO_MASK)

    def encode(self, pipe: Any, text: str) -> Encoded:
        """What the connectors make of Gemma's text; of its 1024 tokens they put the real ones first."""
        require_encoders(pipe, "text_encoder", "tokenizer", "connectors")
        with torch.no_grad(), calls_swapped([(pipe.tokenizer, tokens := TokenizeUnpadded(1024))]):
            embeddings, mask, *_ = pipe.encode_prompt(text, **taken(pipe, do_classifier_free_guidance=False))
            video, audio, _ = pipe.connectors(embeddings, mask, padding_side=pipe.tokenizer.padding_side)
        special = tokens.special[0].to(mask.device)[mask[0].bool()]
        return Encoded(torch.cat([video, audio], -1)[0, : len(special)], special)

    def text_of(self, arguments: Mapping[str, Any]) -> torch.Tensor:
        """Both texts, side by side in the channels."""
        return torch.cat([arguments[self.text], arguments[_AUDIO]], -1)

    def conditional_rows(self, pipe: Any, arguments: Mapping[str, Any]) -> list[bool]:
        """The extra calls that perturb attention or part picture and sound have conditional rows alone."""
        extra = arguments.get("spatio_temporal_guidance_blocks") or arguments.get("isolate_modalities")
        return super().conditional_rows(None if extra else pipe, arguments)

    def grid(self, denoiser: Any, arguments: Mapping[str, Any]) -> Grid:
        """The video's latents cut into patches; key frames and references stand behind them."""
        if arguments.get("height") is None:
            return Grid.of_coordinates(arguments["video_coords"][0, ..., 0])
        side, time = denoiser.config.patch_size, denoiser.config.patch_size_t
        return Grid(arguments["height"] // side, arguments["width"] // side, arguments["num_frames"] // time)

    def inject(self, denoiser: Any, arguments: Mapping[str, Any], negative: NegativeRows, layout: str) -> Injection:
        """Append the negatives to both texts."""
        video, audio = negative.embeddings.tensor_split([arguments[self.text].shape[-1]], -1)
        changed = {**arguments, _AUDIO: torch.cat([arguments[_AUDIO], audio], 1)}
        if arguments.get(_AUDIO_MASK) is not None:
            changed[_AUDIO_MASK] = pad(arguments[_AUDIO_MASK], (0, audio.shape[1]), value=1)
        return super().inject(denoiser, changed, replace(negative, embeddings=video), layout)
