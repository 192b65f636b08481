"""How an attention layer uses the text."""

from dataclasses import dataclass
from typing import Literal

from vsf.attention.layout import Span, TokenLayout


@dataclass(frozen=True, slots=True)
class Role:
    """How a layer attends: image and text together, image to text, or the text to itself.

    In "joint" layers `image` says where the image tokens stand, unless the text's spans hold them already. `picture`
    tells whether they are the picture's; masks and heat maps leave others, such as sound, alone.
    """

    kind: Literal["joint", "cross", "text"]
    image: Literal["first", "last"] = "first"
    picture: bool = True

    def layout(self, text: tuple[Span, ...], keys: int) -> TokenLayout:
        """Return the spans of a layer's keys, given those of its text."""
        if self.kind != "joint" or any(span.kind == "image" for span in text):
            return TokenLayout(text)
        image = Span("image", keys - sum(span.length for span in text))
        return TokenLayout((image, *text) if self.image == "first" else (*text, image))
