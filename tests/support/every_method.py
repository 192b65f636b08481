"""The methods that act on the attention of image rows alone, with settings strong enough to show in a tiny pipeline."""

import pytest

import vsf

STRONG = vsf.ValueSignFlip(scale=2.0, offset=0.1)
METHODS = [
    STRONG,
    vsf.CentredValueSignFlip(scale=6.0),
    vsf.NormalizedAttentionGuidance(),
    vsf.NegativeAwaySteerAttention(),
    vsf.OrthogonalNegativeGuidance(),
]
EVERY_METHOD = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
