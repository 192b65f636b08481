"""ACE-Step: music, whose tokens attend to a text of lyrics, timbre and caption."""

import torch
from torch import Tensor

from vsf.controls.grid import Grid
from vsf.errors import KnobError
from vsf.families.base.family import Encoded, Family, Role, require_encoders
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.encoders.chat import encode_chat


class AceStep(Family):
    """ACE-Step 1.5, Turbo included.

    The keys are [lyrics, timbre and caption | negative]; they have no positions, and no mask hides the filling of a
    batch. A negative is a caption, without lyrics. The picture is one row of time, so that a mask's left is the
    beginning of the music.
    """

    name = "ace_step"
    denoisers = ("AceStepTransformer1DModel",)
    pipelines = ("AceStepPipeline",)
    roles = ((r"layers\.\d+\.cross_attn", Role("cross")),)
    guidance = "batch, conditional first"

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the caption in its template, as the denoiser's text has it behind lyrics and timbre."""
        require_encoders(pipe, "condition_encoder")

        def rows() -> Tensor:
            states = pipe.encode_prompt(text, "", pipe._execution_device)[0][0]
            projector = pipe.condition_encoder.text_projector
            weight = projector.weight
            # Offloaded as a whole, it waits on another device; offloaded by layers, it fetches weights by itself.
            device = states.device if weight.device.type == "meta" else weight.device
            return projector(states.to(device, weight.dtype))

        return encode_chat(pipe, text, rows)

    def check_time(self, target: Pipeline | Denoiser, arguments: CallArguments) -> None:
        """Point to the mask: the music has no frames."""
        raise KnobError(
            "music has no frames: give its time as mask=(start, 0, stop, 1), in fractions of its length, and leave "
            "frames= and seconds= out"
        )

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Return one row of latents; a token stands for two of them, as in a layer of half the size."""
        return Grid(1, arguments["hidden_states"].shape[1])

    def conditional_rows(self, pipe: Pipeline | None, arguments: CallArguments) -> list[bool]:
        """Tell rows of the learned unconditional text by their tokens, which are all alike.

        Only some steps have them: those of the pipeline's interval of classifier-free guidance.
        """
        text = arguments[self.text]
        if not getattr(pipe, "do_classifier_free_guidance", False):
            return [True] * len(text)
        differs: Tensor = torch.ne(text, text[:, :1])
        return differs.flatten(1).any(1).tolist()
