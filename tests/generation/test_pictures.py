"""Input pictures: size, mode, transparency, and files that are not pictures."""

import pytest
from PIL import Image

from vsf.errors import RequestError
from vsf.generation.pictures import open_image, open_mask


def saved(path, picture):
    picture.save(path)
    return path


def test_a_picture_comes_in_rgb_and_at_the_size_asked_for(tmp_path):
    file = saved(tmp_path / "a.png", Image.new("L", (8, 6), "white"))
    assert (open_image(file).mode, open_image(file).size) == ("RGB", (8, 6))
    assert open_image(file, (4, 2)).size == (4, 2)


def test_transparent_parts_of_a_mask_are_black(tmp_path):
    painted = Image.new("RGBA", (2, 1), (255, 255, 255, 0))
    painted.putpixel((1, 0), (255, 255, 255, 255))
    mask = open_mask(saved(tmp_path / "a.png", painted))
    assert (mask.mode, [mask.getpixel((x, 0)) for x in (0, 1)]) == ("L", [0, 255])


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
def test_masks_of_every_mode_are_read(tmp_path, mode):
    picture = Image.new("L", (2, 1))
    picture.putpixel((1, 0), 255)
    mask = open_mask(saved(tmp_path / "a.png", picture.convert(mode)))
    assert [mask.getpixel((x, 0)) for x in (0, 1)] == [0, 255]


@pytest.mark.parametrize("painted", ["black", (0, 0, 0)])
def test_a_mask_that_lets_nothing_act_is_refused(tmp_path, painted):
    with pytest.raises(RequestError, match="black all over; paint white"):
        open_mask(saved(tmp_path / "a.png", Image.new("RGB", (3, 3), painted)))
    with pytest.raises(RequestError, match="black all over"):
        open_mask(saved(tmp_path / "b.png", Image.new("RGBA", (3, 3), (255, 255, 255, 0))))


def test_a_file_that_is_no_picture_or_half_of_one_is_refused(tmp_path):
    file = tmp_path / "a.png"
    file.write_text("no picture")
    with pytest.raises(RequestError, match='cannot read the image "'):
        open_image(file)
    content = saved(tmp_path / "b.png", Image.effect_noise((64, 64), 50)).read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(RequestError, match='cannot read the mask "'):
        open_mask(file)
