"""The contact sheet: every picture, enlarged by a whole factor, under its labels."""

from PIL import Image

from vsf.generation.sheet import GAP, contact_sheet


def test_pictures_stand_column_by_column_in_their_own_pixels():
    colours = ["red", "green", "blue", "yellow", "cyan", "magenta"]
    images = [Image.new("RGB", (64, 32), colour) for colour in colours]
    sheet = contact_sheet(["title"], ["one", "two", "three"], ["upper", "lower"], images)
    width = (sheet.width - GAP) // 3
    centres = [GAP + width * column + width // 2 for column in range(3)]
    pixels_by_column = [[sheet.getpixel((x, y)) for y in range(sheet.height)] for x in centres]
    for column, pixels in enumerate(pixels_by_column):
        upper, lower = (
            Image.new("RGB", (1, 1), colour).getpixel((0, 0)) for colour in colours[2 * column : 2 * column + 2]
        )
        assert pixels.count(upper) == pixels.count(lower) == 32 * 4
        assert pixels.index(upper) < pixels.index(lower)


def test_a_label_that_is_too_long_is_cut_and_does_not_widen_the_sheet():
    images = [Image.new("RGB", (256, 256))]
    short = contact_sheet(["t"], ["a"], ["b"], images)
    long = contact_sheet(["t" * 500], ["a" * 500], ["b" * 500], images)
    assert long.size == short.size
    assert long.tobytes() != short.tobytes()


def test_large_pictures_keep_their_size():
    sheet = contact_sheet([], ["a"], ["b"], [Image.new("RGB", (300, 300))])
    assert sheet.width == 300 + 2 * GAP
