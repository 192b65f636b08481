"""JoyImage-Edit-Plus: joint attention, image tokens first, with masked padding."""

from vsf.controls.grid import Grid
from vsf.families.base.family import Encoded, Family, Role
from vsf.families.base.host import CallArguments, Denoiser, Pipeline
from vsf.families.encoders.chat import encode_chat


class JoyImagePlus(Family):
    """JoyImage-Edit-Plus.

    The token sequence is [image | reference images | padding | positive | negative]; text has no positions. A prompt
    about pictures is read together with them, and a negative alone.
    """

    name = "joyimage_plus"
    denoisers = ("JoyImageEditPlusTransformer3DModel",)
    pipelines = ("JoyImageEditPlusPipeline",)
    roles = ((r"double_blocks\.\d+\.attn", Role("joint", image="first")),)
    text_mask = "encoder_hidden_states_mask"
    conditions = ("encoder_hidden_states", "encoder_hidden_states_mask")
    guidance = "batch"

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of Qwen behind the beginning of its template; the end of the template comes along."""
        chat = f"<|im_start|>user\n{text}<|im_end|>\n"
        return encode_chat(pipe, text, lambda: pipe.encode_prompt_multiple_images(chat)[0][0])

    def grid(self, denoiser: Denoiser, arguments: CallArguments) -> Grid:
        """Return the first of a row's shapes, which is the picture's; the others are those of reference images."""
        frames, height, width = arguments["shape_list"][0][0]
        return Grid(height, width, frames)
