"""Where in the picture and when in a clip guidance acts, brought to a grid of tokens."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vsf.controls.clock import Clock, causal_frames
from vsf.controls.grid import Grid
from vsf.controls.region import Region
from vsf.errors import KnobError

FRACTIONS = st.floats(0, 1)


@given(edges=st.tuples(FRACTIONS, FRACTIONS, FRACTIONS, FRACTIONS), height=st.integers(1, 9), width=st.integers(1, 9))
def test_a_box_covers_each_cell_by_the_part_of_it_that_lies_inside(edges, height, width):
    (left, right), (top, bottom) = sorted(edges[:2]), sorted(edges[2:])
    if left == right or top == bottom:
        return
    on = Region((left, top, right, bottom)).on(Grid(height, width))[0]
    for row in range(height):
        for column in range(width):
            across = min(right, (column + 1) / width) - max(left, column / width)
            down = min(bottom, (row + 1) / height) - max(top, row / height)
            expected = max(across, 0) * width * max(down, 0) * height
            assert float(on[row, column]) == pytest.approx(expected, abs=1e-5)
    assert bool(((on >= 0) & (on <= 1)).all())


def test_the_whole_picture_is_one_and_half_of_it_is_one_or_zero_to_the_last_bit():
    assert torch.equal(Region((0, 0, 1, 1)).on(Grid(7, 3))[0], torch.ones(7, 3))
    assert torch.equal(Region((0, 0, 0.5, 1)).on(Grid(2, 4))[0], torch.tensor([[1.0, 1.0, 0.0, 0.0]] * 2))
    assert torch.equal(Region((0.25, 0.5, 1, 1)).on(Grid(2, 4))[0], torch.tensor([[0.0] * 4, [0.0, 1.0, 1.0, 1.0]]))


def test_a_tensor_of_any_size_is_averaged_over_each_cell():
    mask = torch.tensor([[1.0, 0.0, 0.5, 0.5], [1.0, 1.0, 0.0, 1.0]])
    assert Region(mask).on(Grid(1, 2))[0].tolist() == [[0.75, 0.5]]
    assert Region(mask.half()).on(Grid(2, 4))[0].tolist() == mask.tolist()
    assert Region(torch.tensor([[True, False]])).on(Grid(3, 4))[0].tolist() == [[1.0, 1.0, 0.0, 0.0]] * 3


@pytest.mark.parametrize("size", [(6, 10), (7, 5), (64, 100)])
def test_what_is_all_zero_or_one_stays_so_to_the_last_bit(size):
    mask = torch.ones(size)
    mask[:, : size[1] // 2] = 0
    on = Region(mask).on(Grid(3, 2 if size[1] % 2 == 0 else size[1]))[0]
    assert set(on.flatten().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_white_of_an_image_is_one_and_its_rows_are_rows(mode):
    image = Image.new("L", (4, 2), 0)
    image.paste(255, (0, 0, 1, 2))
    assert Region(image.convert(mode)).on(Grid(2, 4))[0].tolist() == [[1.0, 0.0, 0.0, 0.0]] * 2


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(1, 1, 4, 4), r"or \(frames, height, width\), got \(1, 1, 4, 4\)"),
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


# A clip of 13 frames under a causal autoencoder: the first frame of tokens stands for one of them, the others for four.
CLIP = Grid(1, 1, frames=4, clock=Clock((1, 4, 4, 4), rate=4.0))


def over_time(region, clip=CLIP):
    return region.on(clip).flatten().tolist()


def test_a_causal_autoencoder_makes_one_frame_and_then_several_a_latent():
    assert causal_frames(4, 4) == (1, 4, 4, 4)
    assert causal_frames(1, 8) == (1,)
    assert causal_frames(5, 4, before=2) == (0, 0, 1, 4, 4)
    assert causal_frames(6, 4, before=1, patch=2) == (1, 8, 8)
    assert causal_frames(6, 4, patch=2) == (5, 8, 8)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((0, 13), [1, 1, 1, 1]),
        ((0, 1), [1, 0, 0, 0]),
        ((1, 5), [0, 1, 0, 0]),
        ((3, 7), [0, 0.5, 0.5, 0]),
        ((7, None), [0, 0, 0.5, 1]),
        ((None, 2), [1, 0.25, 0, 0]),
        ((12, 99), [0, 0, 0, 0.25]),
    ],
)
def test_a_range_of_frames_acts_by_the_share_of_each_token_that_lies_in_it(limits, expected):
    assert over_time(Region(frames=limits)) == expected


@given(start=st.integers(0, 12), length=st.integers(1, 20), ratio=st.integers(1, 8), latents=st.integers(1, 6))
def test_shares_of_a_range_add_up_to_its_frames(start, length, ratio, latents):
    clock = Clock(causal_frames(latents, ratio))
    inside = min(start + length, clock.length) - start
    if inside <= 0:
        return
    shares = over_time(Region(frames=(start, start + length)), Grid(1, 1, frames=latents, clock=clock))
    frames = sum(share * covered for share, covered in zip(shares, clock.covered, strict=True))
    assert frames == pytest.approx(inside, abs=1e-5)


def test_seconds_are_counted_by_the_clips_clock_or_by_a_rate_of_ones_own():
    assert over_time(Region(seconds=(0.25, 1.25))) == over_time(Region(frames=(1, 5)))
    assert over_time(Region(seconds=(0.25, 1.25), rate=8)) == over_time(Region(frames=(2, 10)))


def test_a_frame_of_tokens_that_stands_for_no_frame_of_the_clip_is_left_alone():
    clip = Grid(1, 1, frames=3, clock=Clock((0, 1, 4)))
    assert over_time(Region(frames=(0, None)), clip) == [0, 1, 1]


def test_a_range_confines_a_mask():
    on = Region((0, 0, 0.5, 1), frames=(0, 1)).on(Grid(1, 2, frames=2, clock=Clock((1, 4))))
    assert on.tolist() == [[[1, 0]], [[0, 0]]]


def test_the_frames_of_a_mask_are_spread_over_the_clip():
    one_each = torch.arange(13.0).reshape(13, 1, 1) / 12
    expected = [0, *(sum(range(first, first + 4)) / 4 / 12 for first in (1, 5, 9))]
    assert over_time(Region(one_each)) == pytest.approx(expected)
    halves = torch.tensor([1.0, 0.0]).reshape(2, 1, 1)  # the first 6.5 frames
    assert over_time(Region(halves)) == [1, 1, 0.375, 0]


def test_a_mask_of_ones_in_every_frame_is_one_to_the_last_bit():
    for latents, frames in [(4, 13), (7, 5), (3, 11)]:
        clip = Grid(2, 3, frames=latents, clock=Clock(causal_frames(latents, 4)))
        assert torch.equal(Region(torch.ones(frames, 5, 4)).on(clip), torch.ones(latents, 2, 3))


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ({"frames": (4, 2)}, "0 <= start < stop"),
        ({"frames": 4}, "such as frames="),
        ({"seconds": "24"}, "such as seconds="),
        ({"seconds": (-1, 2)}, "0 <= start"),
        ({"frames": (0, 2), "seconds": (0, 2)}, "not both"),
        ({"seconds": (0, 2), "rate": 0}, "fps is a number above 0"),
        ({"frames": (0, 2), "rate": 16}, "fps= is for seconds="),
    ],
)
def test_a_range_that_is_none_is_refused(region, message):
    with pytest.raises(KnobError, match=message):
        Region(**region)


def test_a_range_behind_the_clip_is_refused_instead_of_doing_nothing():
    with pytest.raises(KnobError, match="frames begins at 13, and the clip ends at 13"):
        over_time(Region(frames=(13, 20)))
    with pytest.raises(KnobError, match=r"seconds begins at 4, and the clip ends at 3\.25"):
        over_time(Region(seconds=(4, 5)))


def test_what_has_no_clock_has_no_time():
    with pytest.raises(KnobError, match="whose frames are known"):
        over_time(Region(frames=(0, 2)), Grid(1, 1, frames=4))
    with pytest.raises(KnobError, match="give fps="):
        over_time(Region(seconds=(0, 2)), Grid(1, 1, frames=4, clock=Clock((1, 4, 4, 4))))
