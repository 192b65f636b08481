"""The heat map: brightest where the attention was highest, over a visible picture, with a legend."""

from itertools import pairwise, product

import pytest
import torch
from PIL import Image, ImageChops

from vsf.generation.overlay import RAMP, STRIP, overlay

GREY = Image.new("RGB", (64, 32), (128, 128, 128))


def brightness(picture, x, y):
    return sum(picture.getpixel((x, y)))


def test_the_hottest_place_is_the_brightest_one():
    heat = torch.full((4, 8), 0.001)
    heat[1, 6] = 0.03
    drawn = overlay(GREY, heat, "wheels").crop((0, 0, 256, 128))
    cells_of_heat = product(range(4), range(8))
    cells = {(row, column): brightness(drawn, 32 * column + 16, 32 * row + 16) for row, column in cells_of_heat}
    assert max(cells, key=cells.get) == (1, 6)


def test_a_map_is_smooth_between_its_cells():
    heat = torch.tensor([[0.0, 1.0]])
    drawn = overlay(Image.new("RGB", (256, 256), "gray"), heat, "wheels")
    along = [brightness(drawn, x, 100) for x in range(64, 193)]
    assert max(abs(b - a) for a, b in pairwise(along)) < 12
    assert along[-1] - along[0] > 100


def test_the_picture_stays_visible_below():
    heat = torch.tensor([[0.0, 0.5], [0.2, 1.0]])
    black, white = (overlay(Image.new("RGB", (256, 256), shade), heat, "wheels") for shade in ("black", "white"))
    difference = ImageChops.difference(black, white).crop((0, 0, 256, 256)).convert("L")
    assert difference.getextrema()[0] > 50


def test_small_pictures_are_enlarged_and_large_ones_are_not():
    heat = torch.ones(2, 2)
    assert overlay(GREY, heat, "wheels").size == (256, 128 + STRIP)
    assert overlay(GREY.resize((300, 400)), heat, "wheels").size == (300, 400 + STRIP)


def test_the_legend_says_the_share_and_the_negative():
    heat = torch.full((2, 2), 0.02)
    legends = [
        overlay(GREY, map_, text).crop((0, 128, 256, 128 + STRIP)).tobytes()
        for map_, text in ((heat, "wheels"), (heat * 2, "wheels"), (heat, "lights"), (heat, "wheels" * 100))
    ]
    assert len(set(legends)) == 4


def test_a_map_of_nothing_is_dark_all_over():
    drawn = overlay(GREY, torch.zeros(2, 2), "wheels").crop((0, 0, 256, 128))
    assert drawn.getextrema() == tuple((value, value) for value in drawn.getpixel((0, 0)))


def test_the_ramp_gets_lighter_all_the_way():
    light = [0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in RAMP]
    assert light == sorted(light)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_maps_of_every_precision_are_drawn(dtype):
    assert overlay(GREY, torch.rand(3, 5).to(dtype), "wheels").size == (256, 128 + STRIP)
