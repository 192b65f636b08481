"""Where in the picture guidance acts, brought to a grid of tokens."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vsf.controls.region import Region
from vsf.errors import KnobError

FRACTIONS = st.floats(0, 1)


@given(edges=st.tuples(FRACTIONS, FRACTIONS, FRACTIONS, FRACTIONS), height=st.integers(1, 9), width=st.integers(1, 9))
def test_a_box_covers_each_cell_by_the_part_of_it_that_lies_inside(edges, height, width):
    (left, right), (top, bottom) = sorted(edges[:2]), sorted(edges[2:])
    if left == right or top == bottom:
        return
    on = Region((left, top, right, bottom)).on(height, width)
    for row in range(height):
        for column in range(width):
            across = min(right, (column + 1) / width) - max(left, column / width)
            down = min(bottom, (row + 1) / height) - max(top, row / height)
            expected = max(across, 0) * width * max(down, 0) * height
            assert float(on[row, column]) == pytest.approx(expected, abs=1e-5)
    assert bool(((on >= 0) & (on <= 1)).all())


def test_the_whole_picture_is_one_and_half_of_it_is_one_or_zero_to_the_last_bit():
    assert torch.equal(Region((0, 0, 1, 1)).on(7, 3), torch.ones(7, 3))
    assert torch.equal(Region((0, 0, 0.5, 1)).on(2, 4), torch.tensor([[1.0, 1.0, 0.0, 0.0]] * 2))
    assert torch.equal(Region((0.25, 0.5, 1, 1)).on(2, 4), torch.tensor([[0.0] * 4, [0.0, 1.0, 1.0, 1.0]]))


def test_a_tensor_of_any_size_is_averaged_over_each_cell():
    mask = torch.tensor([[1.0, 0.0, 0.5, 0.5], [1.0, 1.0, 0.0, 1.0]])
    assert Region(mask).on(1, 2).tolist() == [[0.75, 0.5]]
    assert Region(mask.half()).on(2, 4).tolist() == mask.tolist()
    assert Region(torch.tensor([[True, False]])).on(3, 4).tolist() == [[1.0, 1.0, 0.0, 0.0]] * 3


@pytest.mark.parametrize("size", [(6, 10), (7, 5), (64, 100)])
def test_what_is_all_zero_or_one_stays_so_to_the_last_bit(size):
    mask = torch.ones(size)
    mask[:, : size[1] // 2] = 0
    on = Region(mask).on(3, 2 if size[1] % 2 == 0 else size[1])
    assert set(on.flatten().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_white_of_an_image_is_one_and_its_rows_are_rows(mode):
    image = Image.new("L", (4, 2), 0)
    image.paste(255, (0, 0, 1, 2))
    assert Region(image.convert(mode)).on(2, 4).tolist() == [[1.0, 0.0, 0.0, 0.0]] * 2


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(1, 4, 4), r"a mask is \(height, width\), got \(1, 4, 4\)"),
        (torch.zeros(0, 4), r"got \(0, 4\)"),
        (torch.full((2, 2), 1.5), "numbers from 0 to 1, got 1.5 to 1.5"),
        (torch.full((2, 2), float("nan")), "numbers from 0 to 1, got nan"),
        ((0.5, 0, 0.5, 1), "left < right"),
        ((0, 0.8, 1, 0.2), "top < bottom"),
        ((0, 0, 64, 64), "in fractions"),
        ((0, 0, 1), r"got \(0, 0, 1\)"),
        ("left", "got 'left'"),
        ([True, 0, 1, 1], "in fractions"),
        (3, "got 3"),
    ],
)
def test_anything_else_is_refused(mask, message):
    with pytest.raises(KnobError, match=message):
        Region(mask)
