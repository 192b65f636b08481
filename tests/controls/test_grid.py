"""Image tokens on their grid: halved in a U-Net, followed by those of reference images."""

import pytest
import torch

import vsf
from vsf.controls.grid import Grid
from vsf.controls.region import Region


def test_tokens_go_row_by_row_and_frame_by_frame():
    laid_out = Grid(2, 3, frames=2).cut(torch.arange(12.0))
    assert laid_out.tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]


@pytest.mark.parametrize("frames", [1, 3])
def test_a_grid_is_told_by_times_rows_and_columns_with_key_frames_and_references_behind(frames):
    clip = torch.cartesian_prod(torch.arange(frames) / 25, 32 * torch.arange(2.0), 32 * torch.arange(4.0)).T
    key_frame, reference = clip[:, :8], torch.cartesian_prod(torch.zeros(1), torch.arange(4.0), torch.arange(2.0)).T
    for behind in ([], [key_frame], [reference], [key_frame, reference]):
        assert Grid.of_coordinates(torch.cat([clip, *behind], 1)) == Grid(2, 4, frames)


def test_rows_may_lie_closer_together_than_the_picture_is_wide():
    places = torch.cartesian_prod(torch.arange(3.0), torch.arange(4) / 2, 5 + torch.arange(6) / 2).T
    assert Grid.of_coordinates(places) == Grid(4, 6, frames=3)


@pytest.mark.parametrize("sides", [(1, 4), (4, 1), (1, 1)])
def test_a_side_may_have_one_token(sides):
    places = torch.cartesian_prod(torch.arange(2.0), *(torch.arange(float(side)) for side in sides)).T
    assert Grid.of_coordinates(places) == Grid(*sides, frames=2)


def test_a_layer_with_as_many_tokens_has_the_same_grid():
    assert Grid(5, 4, 3).fit(60) == Grid(5, 4, 3)


@pytest.mark.parametrize(("tokens", "expected"), [(12, Grid(3, 4)), (4, Grid(2, 2)), (1, Grid(1, 1))])
def test_deeper_layers_of_a_u_net_halve_rows_and_columns_rounding_up(tokens, expected):
    assert Grid(5, 8).fit(tokens) == expected


def test_frames_are_never_halved():
    assert Grid(4, 4, frames=3).fit(12) == Grid(2, 2, frames=3)


def test_tokens_of_reference_images_lie_behind_the_grid():
    grid = Grid(2, 2).fit(7)
    assert grid == Grid(2, 2)
    assert grid.cut(torch.arange(7.0)).tolist() == [[[0, 1], [2, 3]]]


def test_key_frames_and_sound_may_stand_before_the_grid():
    grid = Grid(1, 2, frames=2, before=3)
    assert grid.fit(8) == grid
    assert grid.cut(torch.arange(8.0)).tolist() == [[[3, 4]], [[5, 6]]]
    assert Grid(4, 4, before=3).fit(7) == Grid(2, 2, before=3)
    with pytest.raises(vsf.LayoutError, match="6 image tokens"):
        Grid(4, 4, before=3).fit(6)


def test_a_region_does_not_concern_sound_and_leaves_key_frames_out():
    left = Region((0, 0, 0.5, 1))
    assert left.on_tokens(8, Grid(1, 2, before=5, sound=3)).tolist() == [0, 0, 1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("tokens", [13, 7, 3])
def test_a_number_of_tokens_that_no_halving_gives_is_refused(tokens):
    with pytest.raises(vsf.LayoutError, match=f"{tokens} image tokens"):
        Grid(4, 4).fit(tokens)


def test_the_grid_of_positions_is_that_of_the_first_picture():
    first = torch.cartesian_prod(torch.tensor([0]), torch.arange(2), torch.arange(3))
    reference = torch.cartesian_prod(torch.tensor([10]), torch.arange(5), torch.arange(4))
    assert Grid.of_positions(torch.cat([first, reference])) == Grid(2, 3)
