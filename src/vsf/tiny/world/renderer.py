"""Draw a scene: a smooth background, soft shadows and the things, oversampled and then averaged down."""

from __future__ import annotations

from collections.abc import Set
from functools import lru_cache

from PIL import Image, ImageDraw

from vsf.tiny.world.brush import RGB, Brush, Look, blend
from vsf.tiny.world.colours import COLOURS
from vsf.tiny.world.objects import OBJECTS
from vsf.tiny.world.places import PLACES
from vsf.tiny.world.scenes import Scene, Thing
from vsf.tiny.world.styles import STYLES

SIZE = 128
OVERSAMPLING = 2
FOREGROUND = 0.19
"""How far below the horizon things stand, as a fraction of the picture."""
# A loose part grows or shrinks to fill a box of this many units, but grows to no more than this many times the size it
# has on its object.
_LOOSE_WIDTH = 88.0
_LOOSE_HEIGHT = 66.0
_LOOSE_GROWTH = 2.6
_SHADE: RGB = (32, 30, 58)


def render(scene: Scene, size: int = SIZE, oversampling: int = OVERSAMPLING) -> Image.Image:
    """Draw the scene; the same scene always gives the same pixels, and a part changes only its own.

    Args:
        scene: The scene.
        size: Side of the picture in pixels.
        oversampling: Pixels drawn for each pixel of the picture, along each side.

    Returns:
        An RGB image of ``size`` × ``size`` pixels.
    """
    side = size * oversampling
    style = STYLES[scene.style]
    image = _backdrop(scene, side)
    draw = ImageDraw.Draw(image)
    for thing in scene.things:
        if not _is_raised(scene, thing):
            _draw_shadow(image, scene, thing)
        _draw_thing(draw, thing, side, scene.horizon + FOREGROUND, style.things)
    return style.finish(image.reduce(oversampling))


def _is_raised(scene: Scene, thing: Thing) -> bool:
    """Return whether the thing stands on another, so that it casts no shadow on the ground."""
    return any(relation.kind == "on" and scene.things[relation.first] is thing for relation in scene.relations)


def _draw_thing(draw: ImageDraw.ImageDraw, thing: Thing, side: int, foot: float, look: Look) -> None:
    """Draw a thing into a picture of ``side`` pixels; ``foot`` is how far down things stand, as a fraction of it."""
    unit = thing.size * side / 100
    x = thing.x * side
    y = (foot - thing.lift) * side
    show: Set[str] = thing.parts | {"body"}
    if not thing.body:
        show = thing.parts
        (part,) = thing.parts
        left, bottom, right, _ = _extent(thing.object, part)
        # A part alone is centred where the thing would stand, with its lowest point on the ground.
        unit *= _growth(thing.object, part)
        x -= (left + right) / 2 * unit
        y += bottom * unit
    OBJECTS[thing.object].draw(Brush(draw, (x, y), unit, look), show, COLOURS[thing.colour])


def _draw_shadow(image: Image.Image, scene: Scene, thing: Thing) -> None:
    """Darken the ground under a thing, more towards the middle in three steps, so that the edge looks soft."""
    side = image.width
    half = 0.44 * thing.size
    if not thing.body:
        (part,) = thing.parts
        left, _, right, _ = _extent(thing.object, part)
        half = (right - left) / 200 * _growth(thing.object, part) * thing.size
    half_width = round(half * side)
    half_height = round(thing.size * side * 0.06)
    mask = Image.new("L", (2 * half_width, 2 * half_height))
    draw = ImageDraw.Draw(mask)
    for spread, shade in ((1.0, 26), (0.85, 51), (0.7, 72)):
        x = half_width * spread
        y = half_height * spread
        draw.ellipse((half_width - x, half_height - y, half_width + x, half_height + y), fill=shade)
    left_edge = round(thing.x * side) - half_width
    top_edge = round((scene.horizon + FOREGROUND - thing.lift) * side) - half_height
    # Pasted through a mask, so that roads, rugs and craters still show in the shadow.
    image.paste(_SHADE, (left_edge, top_edge, left_edge + mask.width, top_edge + mask.height), mask)


def _growth(name: str, part: str) -> float:
    """Return how many times larger a part is drawn when it is alone."""
    left, bottom, right, top = _extent(name, part)
    return min(_LOOSE_WIDTH / (right - left), _LOOSE_HEIGHT / (top - bottom), _LOOSE_GROWTH)


@lru_cache(maxsize=256)
def _extent(name: str, part: str) -> tuple[float, float, float, float]:
    """Return left, bottom, right and top of a part on its object, in the object's units."""
    # Measured on a drawing of two pixels a unit, with the point (0, 0) at the pixel (140, 240).
    canvas = Image.new("RGBA", (280, 280))
    OBJECTS[name].draw(Brush(ImageDraw.Draw(canvas), (140, 240), 2, Look()), {part}, (0, 0, 0))
    box = canvas.getbbox()
    if box is None:
        raise AssertionError(f"{name} draws nothing for its part {part!r}")
    return (box[0] - 140) / 2, (240 - box[3]) / 2, (box[2] - 140) / 2, (240 - box[1]) / 2


def _backdrop(scene: Scene, side: int) -> Image.Image:
    """Draw the sky, brighter towards the horizon, the parts that stand on the horizon, the ground, and its parts."""
    place = PLACES[scene.place]
    look = STYLES[scene.style].place
    horizon = round(scene.horizon * side)
    ground = look.tone(place.ground)
    image = Image.new("RGB", (side, side), ground)
    image.paste(_sky(scene.place, horizon, look).resize((side, horizon), Image.Resampling.NEAREST))
    draw = ImageDraw.Draw(image)
    brush = Brush(draw, (side / 2, horizon), side / 100, look)
    place.behind(brush, scene.place_parts)
    # Painted after the parts behind it, so that it covers their feet.
    draw.rectangle((0, horizon, side, side), fill=ground)
    place.on_ground(brush, scene.place_parts)
    return image


@lru_cache(maxsize=4096)
def _sky(name: str, height: int, look: Look) -> Image.Image:
    """Return the sky as a column one pixel wide."""
    place = PLACES[name]
    column = Image.new("RGB", (1, height))
    for y in range(height):
        column.putpixel((0, y), look.tone(blend(place.zenith, place.haze, y / height)))
    return column
