"""What the attention function of a twin is handed."""

import pytest
import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from torch import nn

from vsf.patching.processor_twins import ProcessorTwins


class Processor:
    def __call__(self, module, query, key, value, mask):
        return dispatch_attention_fn(query, key, value, attn_mask=mask)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.processor = Processor()

    def forward(self, *call):
        return self.processor(self, *call)


@pytest.mark.parametrize("is_boolean", [True, False], ids=["boolean", "additive"])
def test_a_mask_of_two_axes_is_one_of_batch_and_keys(is_boolean):
    query, key, value = (torch.randn(2, tokens, 2, 8) for tokens in (3, 5, 5))
    mask = torch.tensor([[True] * 5, [True, True, False, True, False]])
    if not is_boolean:
        mask = torch.randn(2, 5).masked_fill(~mask, -torch.inf)
    layer = Layer()
    expected = layer(query, key, value, mask)
    handed = []

    def attend(query, key, value, options):
        handed.append(options["attn_mask"])
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, options["attn_mask"])

    with ProcessorTwins({"layer": (layer, attend)}).in_place():
        assert torch.equal(layer(query, key, value, mask), expected)
        layer(query, key, value, torch.ones(3, 5, dtype=torch.bool))  # torch's own, (queries, keys)
        layer(query, key, value, None)
    assert [None if mask is None else tuple(mask.shape) for mask in handed] == [(2, 1, 1, 5), (3, 5), None]
