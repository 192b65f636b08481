"""JoyImage-Edit: joint attention, image tokens first."""

from typing import Any

from vsf.families.base.family import Encoded, Family, Overrides, Role, Running
from vsf.families.base.host import Denoiser, Original, Pipeline
from vsf.families.encoders.chat import encode_chat
from vsf.families.layouts.positions import restarted


class JoyImage(Family):
    """JoyImage-Edit.

    The token sequence is [image | reference images | positive | negative]. Where text has positions, they start behind
    the picture's, for each negative anew. A prompt about a picture is read together with it, and a negative alone.
    """

    name = "joyimage"
    denoisers = ("JoyImageEditTransformer3DModel",)
    pipelines = ("JoyImageEditPipeline",)
    roles = ((r"double_blocks\.\d+\.attn", Role("joint", image="first")),)

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of Qwen behind the beginning of its template; the end of the template comes along."""
        return encode_chat(pipe, text, lambda: pipe.encode_prompt(text)[0][0])

    def overrides(self, denoiser: Denoiser, running: Running) -> Overrides:
        """Start the positions of each negative where the positive's start."""

        def embed(original: Original, model: object, *args: Any, **kwargs: Any) -> Any:
            image, text = original(model, *args, **kwargs)
            injection = running()
            if injection is None or text is None:
                return image, text
            cosines, sines = text
            spans = injection.text[0]
            return image, (restarted(cosines, spans), restarted(sines, spans))

        return [(denoiser, {"get_rotary_pos_embed": embed})]
