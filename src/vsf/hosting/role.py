"""The role of an attention layer: how it uses the text."""

from dataclasses import dataclass
from typing import Literal

from vsf.attention.layout import Span, TokenLayout


@dataclass(frozen=True, slots=True)
class Role:
    """The way a layer attends.

    Attributes:
        kind: "joint" for image and text together, "cross" for image to text, "text" for the text to itself.
        image: where the image tokens stand in "joint" layers, unless the text's spans hold them already.
        picture: whether the image tokens are those of the picture; masks and heat maps leave others, such as sound,
            alone.
    """

    kind: Literal["joint", "cross", "text"]
    image: Literal["first", "last"] = "first"
    picture: bool = True

    def layout(self, text: tuple[Span, ...], keys: int) -> TokenLayout:
        """Return the spans of a layer's keys.

        Args:
            text: the spans of its text tokens.
            keys: how many keys there are; those that are not text are image.
        """
        if self.kind != "joint" or any(span.kind == "image" for span in text):
            return TokenLayout(text)
        image = Span("image", keys - TokenLayout(text).tokens)
        return TokenLayout((image, *text) if self.image == "first" else (*text, image))
