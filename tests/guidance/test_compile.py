"""Guided attention in compiled code: one graph for every strength, knob value and negative length."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from support.attend import attend
from vsf.attention.layout import Span, TokenLayout
from vsf.guidance import METHODS, Control, Guidance, knobs, method

ACTING = [name for name, cls in METHODS.items() if name != "none" and cls.model_calls == 1]
QUICK = [("vsf", "joint", True), ("nag", "cross", True), ("negpip", "joint", False)]
ALL = [
    pytest.param(name, kind, known, marks=() if (name, kind, known) in QUICK else pytest.mark.slow)
    for name in ACTING
    for kind in ("joint", "cross")
    for known in (False, True)
]
PADDED = 16
LENGTHS = [(7, 0), (16, 3), (1, 16)]


@dataclass
class Host:
    """What a session holds between the calls of a compiled model."""

    method: Guidance
    strength: torch.Tensor
    valid: torch.Tensor
    weights: torch.Tensor | None = None
    emphasis: list[torch.Tensor | None] | None = None
    unguided: tuple[int, ...] | None = None


def layout_of(kind):
    image = (Span("image", 20),) if kind == "joint" else ()
    return TokenLayout((*image, Span("positive", 6), Span("negative", PADDED)))


def with_tensors(name, factor):
    """The method with every number among its knobs as a tensor."""
    numbers = [knob for knob in knobs(METHODS[name]) if not knob.choices]
    return method(name, **{knob.name: torch.tensor(knob.default * factor + 0.1) for knob in numbers})


def compiled_and_plain(host, kind):
    tokens = layout_of(kind).tokens
    random = torch.Generator().manual_seed(0)
    query = torch.randn(2, 2, tokens if kind == "joint" else 20, 8, generator=random)
    key, value = torch.randn(2, 2, 2, tokens, 8, generator=random)

    def guided(query, key, value):
        control = Control(host.weights, host.strength, host.emphasis, host.unguided)
        layout = layout_of(kind)
        return attend(host.method, query, key, value, layout, kind=kind, negative_valid=host.valid, control=control)

    counter = CompileCounter()
    torch._dynamo.reset()
    compiled = torch.compile(guided, fullgraph=True, dynamic=False, backend=counter)
    return counter, lambda: (compiled(query, key, value), guided(query, key, value))


@pytest.mark.parametrize(("name", "kind", "rows_known"), ALL)
def test_one_graph_serves_every_strength_knob_and_negative_length(name, kind, rows_known):
    host = Host(method(name), torch.tensor(1.0), torch.ones(2, PADDED, dtype=torch.bool))
    host.weights, host.emphasis = torch.ones(2, 1), [torch.ones(6), None]
    if rows_known:
        host.unguided = (1,)
    counter, run = compiled_and_plain(host, kind)
    outs = []
    for at, lengths in enumerate(LENGTHS):
        host.method = with_tensors(name, 1 + at / 4)
        host.strength = torch.tensor(1 - at / 4)
        host.weights = torch.tensor([[1.0 + at], [0.5]])
        host.emphasis = [torch.full((6,), 1.0 + at), None]
        host.valid = torch.arange(PADDED) < torch.tensor(lengths)[:, None]
        compiled, plain = run()
        torch.testing.assert_close(compiled, plain)
        outs.append(compiled)
    assert counter.frame_count == 1
    assert not torch.allclose(outs[0], outs[1], atol=1e-4)


def test_a_knob_with_a_value_for_each_row_stays_one_graph():
    host = Host(method("vsf"), torch.tensor(1.0), torch.ones(2, PADDED, dtype=torch.bool), unguided=(1,))
    counter, run = compiled_and_plain(host, "joint")
    for factor in (0.5, 1.0, 2.0):
        host.method = replace(host.method, scale=torch.tensor([1.0, 3.0])[:, None, None] * factor)
        compiled, plain = run()
        torch.testing.assert_close(compiled, plain)
    assert counter.frame_count == 1
