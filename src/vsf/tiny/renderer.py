"""Draw a scene: a smooth background, a soft shadow and the things, at four times the size, then averaged down."""

from __future__ import annotations

from collections.abc import Set
from functools import lru_cache

from PIL import Image, ImageDraw

from vsf.tiny.brush import RGB, Brush, Look, blend
from vsf.tiny.scenes import BACKGROUNDS, COLOURS, OBJECTS, Background, Scene, Thing

LOOKS = {
    "tidy": Look(),
    "sketchy": Look(veil=(252, 245, 228), veil_on_things=0.2, veil_on_background=0.62, ink=(40, 36, 46), line=2.6),
    "misty": Look(veil=(226, 230, 236), veil_on_things=0.22, veil_on_background=0.55),
}
_OVERSAMPLING = 4
_FOREGROUND = 0.19  # things stand this far below the horizon, as a fraction of the picture
# A loose part grows or shrinks to fill a box of this many units, but grows to no more than this many times the size it
# has on its object.
_LOOSE_WIDTH = 88.0
_LOOSE_HEIGHT = 66.0
_LOOSE_GROWTH = 2.6
_SHADE: RGB = (32, 30, 58)


def render(scene: Scene, size: int = 64) -> Image.Image:
    """Draw the scene as an RGB image of `size` × `size` pixels; the same scene always gives the same pixels."""
    side = size * _OVERSAMPLING
    look = LOOKS[scene.style]
    image = _background(scene.background, round(scene.horizon * side), side, look)
    draw = ImageDraw.Draw(image)
    ground = look.background(BACKGROUNDS[scene.background].ground)
    for thing in scene.things:
        _draw_thing(draw, thing, (side, scene.horizon + _FOREGROUND), look, ground)
    return image.reduce(_OVERSAMPLING)


def _draw_thing(draw: ImageDraw.ImageDraw, thing: Thing, place: tuple[int, float], look: Look, ground: RGB) -> None:
    """Draw a thing whose foot is at `place[1]` of a picture `place[0]` pixels wide."""
    side, foot = place
    unit = thing.size * side / 100
    x = thing.x * side
    y = foot * side
    half_shadow = 44.0 * unit
    show: Set[str] = thing.parts | {"body"}
    if not thing.body:
        show = thing.parts
        (part,) = thing.parts
        left, bottom, right, top = _extent(thing.object, part)
        # A part alone is centred where the thing would stand, with its lowest point on the ground.
        growth = min(_LOOSE_WIDTH / (right - left), _LOOSE_HEIGHT / (top - bottom), _LOOSE_GROWTH)
        unit *= growth
        half_shadow = (right - left) / 2 * unit
        x -= (left + right) / 2 * unit
        y += bottom * unit
    _draw_shadow(draw, (thing.x * side, foot * side), (half_shadow, thing.size * side * 0.06), ground)
    OBJECTS[thing.object].draw(Brush(draw, (x, y), unit, look), show, COLOURS[thing.colour])


def _draw_shadow(
    draw: ImageDraw.ImageDraw, middle: tuple[float, float], radii: tuple[float, float], ground: RGB
) -> None:
    """Draw a shadow on the ground that darkens inwards in three steps, so that its edge looks soft."""
    x, y = middle
    for spread, shade in ((1.0, 0.10), (0.85, 0.20), (0.7, 0.28)):
        half_width = radii[0] * spread
        half_height = radii[1] * spread
        draw.ellipse(
            (x - half_width, y - half_height, x + half_width, y + half_height), fill=blend(ground, _SHADE, shade)
        )


@lru_cache(maxsize=256)
def _extent(name: str, part: str) -> tuple[float, float, float, float]:
    """Return left, bottom, right and top of a part on its object, in the object's units."""
    # Measured on a drawing of two pixels a unit, with the point (0, 0) at the pixel (140, 240).
    canvas = Image.new("RGBA", (280, 280))
    OBJECTS[name].draw(Brush(ImageDraw.Draw(canvas), (140, 240), 2, LOOKS["tidy"]), {part}, (0, 0, 0))
    box = canvas.getbbox()
    if box is None:
        raise AssertionError(f"{name} draws nothing for its part {part!r}")
    return (box[0] - 140) / 2, (240 - box[3]) / 2, (box[2] - 140) / 2, (240 - box[1]) / 2


def _background(name: str, horizon: int, side: int, look: Look) -> Image.Image:
    """Draw the sky, brighter towards the horizon, the landmarks on the horizon, and plain ground."""
    background = BACKGROUNDS[name]
    image = Image.new("RGB", (side, side), look.background(background.ground))
    image.paste(_sky(name, horizon, look).resize((side, horizon), Image.Resampling.NEAREST))
    _landmarks(ImageDraw.Draw(image), background, horizon, look)
    return image


@lru_cache(maxsize=2048)
def _sky(name: str, height: int, look: Look) -> Image.Image:
    """Return the sky as a column one pixel wide."""
    background = BACKGROUNDS[name]
    column = Image.new("RGB", (1, height))
    for y in range(height):
        column.putpixel((0, y), look.background(blend(background.zenith, background.haze, y / height)))
    return column


def _landmarks(draw: ImageDraw.ImageDraw, background: Background, horizon: int, look: Look) -> None:
    """Draw the few big shapes that tell backgrounds apart."""
    side = draw.im.size[0]
    for kind, box, fill in background.landmarks:
        left, top, right, bottom = (value * side for value in box)
        if kind != "moon":
            top += horizon
            bottom += horizon
        shape = draw.rectangle if kind == "block" else draw.ellipse
        shape((left, top, right, bottom), fill=look.background(fill))
    # Hills are whole ellipses: the ground covers their lower halves.
    if any(kind == "hill" for kind, _, _ in background.landmarks):
        draw.rectangle((0, horizon, side, side), fill=look.background(background.ground))
