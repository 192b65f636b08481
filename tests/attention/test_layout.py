import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vsf.attention.layout import HOST, Span, TokenLayout
from vsf.errors import LayoutError

KINDS = ["image", "positive", "negative", "shared"]
LAYOUTS = st.lists(st.builds(Span, st.sampled_from(KINDS), st.integers(0, 4)), max_size=8).map(
    lambda spans: TokenLayout(tuple(spans))
)


def labels_of(layout):
    """One (kind, number of the negative or None) per token."""
    labels, negatives = [], 0
    for span in layout.spans:
        labels += [(span.kind, negatives if span.kind == "negative" else None)] * span.length
        negatives += span.kind == "negative"
    return labels


@given(layout=LAYOUTS, parts=st.sets(st.sampled_from([*KINDS, 0, 1, 2])))
def test_take_keeps_the_tokens_of_the_parts_in_sequence_order(layout, parts):
    labels = labels_of(layout)
    expected = [at for at, (kind, number) in enumerate(labels) if kind in parts or number in parts]
    taken = layout.take(torch.arange(layout.tokens)[None].expand(2, -1), 1, parts)
    assert taken.tolist() == [expected, expected]
    assert layout.count(parts) == len(expected)


@given(layout=LAYOUTS)
def test_without_negatives_is_the_layout_of_the_unguided_model(layout):
    host = layout.without_negatives()
    assert host.tokens == layout.count(HOST)
    assert [label for label in labels_of(layout) if label[0] != "negative"] == labels_of(host)


def test_neighbouring_spans_are_taken_as_one_view():
    layout = TokenLayout((Span("image", 3), Span("negative", 0), Span("positive", 2), Span("negative", 4)))
    tensor = torch.arange(9)
    assert layout.take(tensor, 0, HOST).data_ptr() == tensor.data_ptr()
    assert layout.take(tensor, 0, [1]).data_ptr() == tensor[5:].data_ptr()


def test_the_lengths_of_the_negatives_are_listed_in_order():
    layout = TokenLayout((Span("negative", 2), Span("image", 3), Span("negative", 0), Span("negative", 1)))
    assert layout.negative_lengths == (2, 0, 1)
    assert layout.tokens == 6


def test_an_unknown_kind_is_refused():
    with pytest.raises(LayoutError, match='unknown span kind "picture"; use one of image, positive, negative, shared'):
        Span("picture", 3)


def test_a_length_below_zero_is_refused():
    with pytest.raises(LayoutError, match="a span of -1 tokens; lengths are 0 or more"):
        Span("image", -1)
