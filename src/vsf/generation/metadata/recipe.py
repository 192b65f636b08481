"""What the picture of another tool says about how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vsf.errors import RequestError
from vsf.generation.negatives import parse_negatives

if TYPE_CHECKING:
    from vsf.generation.models import Model


@dataclass(frozen=True, slots=True)
class Recipe:
    """The part of another tool's metadata that a request can take over.

    Args:
        tool: which tool wrote it.
        fields: steps, seed and, where they are told, guidance_scale, size and strength of the request.
        prompt: what was drawn, with weights as A1111 and ComfyUI spell them.
        negative: its negative prompt, in the same spelling.
        model: the tool's own name of the weights, "" where it does not tell.
        left_out: what else decided the pixels and is not taken over, such as the sampler.
    """

    tool: str
    fields: Mapping[str, Any]
    prompt: str
    negative: str = ""
    model: str = ""
    left_out: tuple[str, ...] = field(default=())

    def repeat(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a request like the picture, with the fields `given` in their place.

        Raises:
            RequestError: no model is given; another tool's name for one is known to that tool alone.
            PromptError: the negative prompt cannot be read, and none is given.
        """
        if "model" not in given:
            named = f' names its model "{self.model}", which is' if self.model else "'s model is"
            raise RequestError(
                f"the picture of {self.tool}{named} not known here; give a folder, a file or a hub id with --model."
            )
        fields = {name: value for name, value in self.fields.items() if name != "strength" or "image" in given}
        fields["prompt"] = self.prompt
        if "negative" not in given:
            fields["negative"] = parse_negatives(self.negative)
        return {**fields, **given}

    def doubts(self, given: Mapping[str, Any]) -> list[str]:
        """Say why the pixels will differ."""
        notes = [f"the picture was made by {self.tool}, whose noise and sampling differ; so will the pixels."]
        if self.left_out:
            notes.append(f"not taken from the picture: {', '.join(self.left_out)}.")
        if "strength" in self.fields and "image" not in given:
            notes.append("it started from another picture, which is not in it; give that with --image.")
        return notes

    def check_weights(self, given: Mapping[str, Any], model: Model) -> None:
        """Accept any weights: another tool's name for a model says nothing about them."""
        del given, model
