"""Ideogram 4: one stream of text and image tokens, filled in front, and a second model that reads no text."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsf.attention.layout import Span, TokenLayout
from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Family, Injection, Overrides, Role, Running
from vsf.families.base.host import CallArguments, Denoiser, Original, Pipeline
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.positions import token_ranks
from vsf.text.embeddings import NegativeRows

_IMAGE = 2
_TEXT = 3
"""The marks of image and text tokens in the denoiser's `indicator`."""


class Ideogram4(Family):
    """Ideogram 4.

    A row is [filling and positive | image | negative]. A mask hides the filling from everything else. Text counts from
    position 0, and so does each negative; the image stands far behind, whatever the text's length. The negatives' rows
    end before the last layer: pipelines take all that follows the text for the image.

    Of its two models the one called unconditional is never given any text, and stays as it is.
    """

    name = "ideogram4"
    denoisers = ("Ideogram4Transformer2DModel",)
    pipelines = ("Ideogram4Pipeline",)
    roles = ((r"layers\.\d+\.attention", Role("joint")),)
    conditions = ("encoder_hidden_states", "position_ids", "segment_ids", "indicator")

    def denoisers_of(self, target: Pipeline | Denoiser) -> list[nn.Module]:
        """Return the model that reads the text."""
        if isinstance(target, nn.Module):
            return super().denoisers_of(target)
        components: Mapping[str, Any] = getattr(target, "components", {})
        without_text = components.get("unconditional_transformer")
        return [model for model in super().denoisers_of(target) if model is not without_text]

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the tokens of the chat as the pipeline writes it, with as much room for them as they need."""

        def rows() -> Tensor:
            messages = [{"role": "user", "content": [{"type": "text", "text": text}]}]
            chat = pipe.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            tokens = len(pipe.tokenizer(chat, add_special_tokens=False)["input_ids"])
            return pipe.encode_prompt(text, 1, 1, tokens, pipe._execution_device)[0][0, :tokens]

        return encode_chat(pipe, text, rows)

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Return the grid of the image tokens' positions."""
        positions = arguments["position_ids"][0, -_image_tokens(arguments) :]
        return Grid.of_positions(positions - positions[0])

    def inject(self, denoiser: Denoiser, arguments: CallArguments, negative: NegativeRows, layout: str) -> Injection:
        """Append the negatives behind the image, to everything that has an entry for each token."""
        text = arguments[self.text]
        added = negative.embeddings.shape[1]
        ranks = token_ranks(negative.spans, text.device).to(arguments["position_ids"].dtype)
        positions = ranks[None, :, None].expand(len(text), -1, 3)
        # Text and image are of one segment, number 1.
        changed = {
            "hidden_states": F.pad(arguments["hidden_states"], (0, 0, 0, added)),
            self.text: torch.cat([text, negative.embeddings], 1),
            "position_ids": torch.cat([arguments["position_ids"], positions], 1),
            "segment_ids": F.pad(arguments["segment_ids"], (0, added), value=1),
            "indicator": F.pad(arguments["indicator"], (0, added), value=_TEXT),
        }
        image = _image_tokens(arguments)
        spans = (Span("positive", text.shape[1] - image), Span("image", image), *negative.spans)
        return Injection({**arguments, **changed}, (spans,), negative.valid(added), negative.weights)

    def overrides(self, denoiser: Denoiser, running: Running) -> Overrides:
        """Leave the negatives' rows out of the last layer, and so of the output."""

        def finish(original: Original, layer: nn.Module, rows: Tensor, *args: Any, **kwargs: Any) -> Any:
            injection = running()
            if injection is not None:
                rows = rows[:, : TokenLayout(injection.text[0]).without_negatives().tokens]
            return original(layer, rows, *args, **kwargs)

        return [(denoiser.final_layer, {"__call__": finish})]


def _image_tokens(arguments: CallArguments) -> int:
    """Return how many image tokens each row has; they come last."""
    return int((arguments["indicator"][0] == _IMAGE).sum())
