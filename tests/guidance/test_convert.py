import pytest
import torch

from support.attend import attend
from vsf.attention.layout import Span, TokenLayout
from vsf.guidance import convert_nag, convert_reference, method

PUBLISHED = [
    ((3.0, 0.08), (0.92, -0.654)),
    ((3.5, 0.1), (1.14, -0.644)),
    ((3.3, 0.2), (0.94, -0.598)),
    ((3.8, 0.2), (1.16, -0.598)),
    ((4.5, 0.2), (1.48, -0.598)),
]


@pytest.mark.parametrize(("theirs", "ours"), PUBLISHED)
def test_the_authors_settings_become_those_of_the_paper_layout(theirs, ours):
    scale, offset = convert_reference(*theirs)
    assert scale == pytest.approx(ours[0], abs=0.005)
    assert offset == pytest.approx(ours[1], abs=0.0005)


@pytest.mark.parametrize("theirs", [theirs for theirs, _ in PUBLISHED])
def test_both_layouts_give_the_image_the_same_in_one_block(theirs):
    query, key, value = torch.randn(3, 1, 2, 12, 8, dtype=torch.float64)
    scale, offset = convert_reference(*theirs)
    paper = TokenLayout((Span("image", 5), Span("positive", 4), Span("negative", 3)))
    expected = attend(method("vsf", scale=scale, offset=offset), query, key, value, paper)
    # [P|N] as the positive prompt, and the negative behind it again
    doubled = [torch.cat([tensor, tensor[:, :, 9:]], 2) for tensor in (query, key, value)]
    reference = TokenLayout((Span("image", 5), Span("positive", 7), Span("negative", 3)))
    out = attend(method("vsf", scale=theirs[0], offset=theirs[1], layout="reference"), *doubled, reference)
    torch.testing.assert_close(out[:, :, :5], expected[:, :, :5])


def test_the_scale_of_nag_is_one_more_than_the_phi_of_its_paper():
    assert convert_nag(3.0) == 4.0
