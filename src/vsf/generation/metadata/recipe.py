"""Recipes: the metadata of another tool's picture as arguments of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vsf.errors import RequestError
from vsf.generation.negatives import parse_negatives
from vsf.generation.request import Arguments

if TYPE_CHECKING:
    from vsf.generation.models import Model


@dataclass(frozen=True, slots=True)
class Recipe:
    """The part of another tool's metadata that a request can take over.

    Args:
        tool: name of the tool.
        fields: steps, seed and, if stated, guidance_scale, size and strength of the request.
        prompt: the prompt, with weights as A1111 and ComfyUI spell them.
        negative: the negative prompt, in the same spelling.
        model: the tool's own name of the weights, "" if it does not say.
        left_out: further settings that decided the pixels and are not taken over, such as the sampler.
    """

    tool: str
    fields: Arguments
    prompt: str
    negative: str = ""
    model: str = ""
    left_out: tuple[str, ...] = ()

    def repeat(self, given: Arguments) -> dict[str, Any]:
        """Return the arguments of a request like the picture; `given` replaces single ones.

        Raises:
            RequestError: no model is given; another tool's name of one means nothing here.
            PromptError: the negative prompt cannot be parsed, and none is given.
        """
        if "model" not in given:
            subject = f' names its model "{self.model}", which is' if self.model else "'s model is"
            raise RequestError(
                f"the picture of {self.tool}{subject} not known here; give a folder, a file or a hub id with --model."
            )
        arguments = dict(self.fields)
        if "image" not in given:  # without a picture to start from there is nothing to redraw
            arguments.pop("strength", None)
        arguments["prompt"] = self.prompt
        if "negative" not in given:
            arguments["negative"] = parse_negatives(self.negative)
        return {**arguments, **given}

    def reproduction_warnings(self, given: Arguments) -> list[str]:
        """Return the reasons why the pixels will differ."""
        warnings = [f"the picture was made by {self.tool}, whose noise and sampling differ; so will the pixels."]
        if self.left_out:
            warnings.append(f"not taken from the picture: {', '.join(self.left_out)}.")
        if "strength" in self.fields and "image" not in given:
            warnings.append("it started from another picture, which is not in it; give that with --image.")
        return warnings

    def check_weights(self, given: Arguments, model: Model) -> None:
        """Accept any weights: another tool's name of a model cannot be compared with them."""
        del given, model
