"""What every method in the registry must keep to; a new one is tested by being registered."""

from itertools import product
from math import inf

import pytest
import torch
import torch.nn.functional as F

import vsf.attention.rows
from support.attend import attend
from vsf.attention.layout import Span, TokenLayout
from vsf.guidance import METHODS, Guidance, knobs, method

JOINT = {
    "image first": [("image", 70), ("positive", 9), ("negative", 5)],
    "text first": [("positive", 9), ("negative", 5), ("image", 70)],
    "scattered": [("shared", 2), ("image", 30), ("negative", 3), ("positive", 9), ("image", 40), ("negative", 2)],
}
CROSS = {
    "positive first": [("positive", 9), ("negative", 5)],
    "scattered": [("negative", 3), ("positive", 5), ("shared", 2), ("negative", 2), ("positive", 4)],
}
LAYOUTS = [("joint", *item) for item in JOINT.items()] + [("cross", *item) for item in CROSS.items()]
EVERY_LAYOUT = pytest.mark.parametrize(("kind", "spans"), [pytest.param(k, s, id=f"{k} {n}") for k, n, s in LAYOUTS])
EVERY_METHOD = pytest.mark.parametrize("name", METHODS)
# those that act on attention: not the baseline, nor a method that acts on the model's output
ACTING = [name for name, cls in METHODS.items() if name != "none" and cls.model_calls == 1]


def layout_of(spans):
    return TokenLayout(tuple(Span(*span) for span in spans))


def draw(kind, spans, dtype=torch.float32, batch=3, channels=32):
    tokens = sum(length for _, length in spans)
    random = torch.Generator().manual_seed(0)
    shapes = [(batch, tokens if kind == "joint" else 70, 2, channels), *[(batch, tokens, 2, channels)] * 2]
    return [torch.randn(shape, generator=random).to(dtype).transpose(1, 2) for shape in shapes]


def mask(style, kind, tokens, dtype):
    if style == "none":
        return None
    random = torch.Generator().manual_seed(1)
    shape = (3, 1, tokens if kind == "joint" else 70, tokens)
    shown = torch.rand(shape, generator=random) < 0.9
    return shown if style == "bool" else torch.randn(shape, generator=random).to(dtype)


def unguided(kind, spans, query, key, value, bias):
    """Torch's attention over the sequence without the negatives: (rows it has, their output)."""
    kept = [at for at, part in enumerate(part for part, n in spans for _ in range(n)) if part != "negative"]
    rows = kept if kind == "joint" else list(range(query.shape[2]))
    if bias is not None:
        bias = bias[:, :, rows][..., kept]
    inputs = (query[:, :, rows], key[:, :, kept], value[:, :, kept])
    return rows, F.scaled_dot_product_attention(*inputs, bias)


@pytest.mark.parametrize(
    ("dtype", "gradients"),
    [
        (torch.float64, False),
        (torch.float32, False),
        (torch.float32, True),
        (torch.bfloat16, False),
        (torch.float16, False),
    ],
)
@pytest.mark.parametrize("style", ["none", "bool", "additive"])
@EVERY_LAYOUT
@EVERY_METHOD
def test_a_row_without_a_real_negative_token_is_unguided_to_the_last_bit(name, kind, spans, style, dtype, gradients):
    query, key, value = draw(kind, spans, dtype)
    bias = mask(style, kind, key.shape[2], dtype)
    rows, expected = unguided(kind, spans, query, key, value, bias)
    valid = torch.tensor([[True] * 5, [False] * 5, [True, False, True, True, False]])
    out = attend(
        method(name),
        query.requires_grad_(gradients),
        key,
        value,
        layout_of(spans),
        kind=kind,
        negative_valid=valid,
        bias=bias,
    )
    assert torch.equal(out[1, :, rows], expected[1])
    text = [at for at, part in enumerate(part for part, n in spans for _ in range(n)) if part in ("positive", "shared")]
    if kind == "joint":
        at = [rows.index(row) for row in text]
        left_alone = slice(None) if "positive" not in METHODS[name].guided_rows else 1
        assert torch.equal(out[left_alone, ..., text, :], expected[left_alone, ..., at, :])
    if name in ACTING:
        image = rows if kind == "cross" else [row for row in rows if row not in text]
        assert not torch.equal(out[0, :, image], expected[0][:, [rows.index(row) for row in image]])


@EVERY_LAYOUT
@EVERY_METHOD
def test_an_empty_negative_changes_nothing(name, kind, spans):
    emptied = [(part, 0 if part == "negative" else length) for part, length in spans]
    query, key, value = draw(kind, emptied)
    out = attend(method(name), query, key, value, layout_of(emptied), kind=kind)
    assert torch.equal(out, F.scaled_dot_product_attention(query, key, value))


@EVERY_LAYOUT
@EVERY_METHOD
def test_an_empty_negative_beside_a_full_one_changes_nothing(name, kind, spans):
    query, key, value = draw(kind, spans)
    more = [("negative", 0), *spans, ("negative", 0)]
    out = attend(method(name), query, key, value, layout_of(more), kind=kind)
    torch.testing.assert_close(out, attend(method(name), query, key, value, layout_of(spans), kind=kind))


@EVERY_LAYOUT
@EVERY_METHOD
def test_permuting_batch_rows_permutes_the_result(name, kind, spans):
    query, key, value = draw(kind, spans)
    valid = torch.tensor([[True] * 5, [False] * 5, [True, False, True, True, False]])
    order = [2, 0, 1]

    def guided(query, key, value, valid):
        return attend(method(name), query, key, value, layout_of(spans), kind=kind, negative_valid=valid)

    together = guided(query, key, value, valid)
    torch.testing.assert_close(guided(query[order], key[order], value[order], valid[order]), together[order])


@EVERY_LAYOUT
@EVERY_METHOD
def test_permuting_image_tokens_permutes_the_result(name, kind, spans):
    query, key, value = draw(kind, spans)
    labels = [part for part, n in spans for _ in range(n)]
    image = [at for at, part in enumerate(labels) if part == "image"] if kind == "joint" else list(range(70))
    order = list(range(query.shape[2]))
    for at, to in zip(image, reversed(image), strict=True):
        order[at] = to
    keys = order if kind == "joint" else slice(None)

    def guided(query, key, value):
        return attend(method(name), query, key, value, layout_of(spans), kind=kind)

    together = guided(query, key, value)
    torch.testing.assert_close(guided(query[:, :, order], key[:, :, keys], value[:, :, keys]), together[:, :, order])


@pytest.mark.parametrize("gradients", [False, True], ids=["", "with gradients"])
@EVERY_LAYOUT
@EVERY_METHOD
def test_no_argument_is_written_to(name, kind, spans, gradients):
    query, key, value = draw(kind, spans)
    bias = mask("additive", kind, key.shape[2], torch.float32)
    valid = torch.tensor([[True] * 5, [False] * 5, [True, False, True, True, False]])
    before = [tensor.clone() for tensor in (query, key, value, bias, valid)]
    query.requires_grad_(gradients)
    attend(method(name), query, key, value, layout_of(spans), kind=kind, negative_valid=valid, bias=bias)
    assert all(torch.equal(was, now) for was, now in zip(before, (query, key, value, bias, valid), strict=True))


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("kind", ["joint", "cross"])
@EVERY_METHOD
def test_gradients_agree_with_finite_differences(name, kind, masked):
    spans = [("image", 2), ("positive", 2), ("negative", 2), ("shared", 1), ("negative", 1)]
    spans = spans if kind == "joint" else spans[1:]
    inputs = [tensor[:, :1, :, :3].clone() for tensor in draw(kind, spans, torch.float64, batch=2)]
    inputs[0] = inputs[0] if kind == "joint" else inputs[0][:, :, :2]
    numbers = [knob.name for knob in knobs(METHODS[name]) if not knob.choices]
    settings = [torch.tensor(0.7 + at / 3, dtype=torch.float64) for at in range(len(numbers))]
    valid = torch.tensor([[True, False, True], [False, False, False]]) if masked else None

    def guided(query, key, value, *settings):
        chosen = method(name, **dict(zip(numbers, settings, strict=True)))
        return attend(chosen, query, key, value, layout_of(spans), kind=kind, negative_valid=valid)

    arguments = [tensor.requires_grad_() for tensor in (*inputs, *settings)]
    assert torch.autograd.gradcheck(guided, arguments)


@pytest.mark.parametrize("name", ACTING)
def test_gradients_of_knobs_alone_agree_with_finite_differences(name):
    """Knobs that want gradients beside inputs that do not: the fused kernels stay in use."""
    numbers = [knob.name for knob in knobs(METHODS[name]) if not knob.choices]
    spans = JOINT["image first"]
    query, key, value = (tensor[:1, :1, :, :3].contiguous() for tensor in draw("joint", spans, torch.float64))
    settings = [torch.tensor(0.7 + at / 3, dtype=torch.float64, requires_grad=True) for at in range(len(numbers))]

    def guided(*settings):
        chosen = method(name, **dict(zip(numbers, settings, strict=True)))
        return attend(chosen, query, key, value, layout_of(spans))

    assert torch.autograd.gradcheck(guided, settings)


@pytest.mark.parametrize("way", ["fused", "joined"])
@EVERY_METHOD
def test_negatives_are_interchangeable(monkeypatch, name, way):
    if way == "joined":
        monkeypatch.setattr(vsf.attention.rows, "best_kernel", lambda *_, **__: None)
    spans = [("image", 6), ("positive", 4), ("negative", 3), ("negative", 2)]
    query, key, value = draw("joint", spans)
    swap = [*range(10), 13, 14, 10, 11, 12]
    out = attend(method(name), query, key, value, layout_of(spans))
    swapped = attend(
        method(name), query[:, :, swap], key[:, :, swap], value[:, :, swap], layout_of([*spans[:2], spans[3], spans[2]])
    )
    torch.testing.assert_close(swapped, out[:, :, swap])


@EVERY_METHOD
def test_a_method_is_found_by_its_own_name(name):
    made = method(name)
    assert isinstance(made, Guidance)
    assert made.name == name
    assert type(made) is METHODS[name]
    assert made == METHODS[name]()


@pytest.mark.parametrize(
    ("kind", "spans", "orthogonal"),
    [pytest.param(k, s, o, id=f"{k} {n} {o}") for (k, n, s), o in product(LAYOUTS, [False, True])],
)
def test_an_infinite_offset_is_no_guidance_to_the_last_bit(kind, spans, orthogonal):
    query, key, value = draw(kind, spans)
    rows, expected = unguided(kind, spans, query, key, value, None)
    chosen = method("vsf", scale=3.0, offset=inf, orthogonal=orthogonal)
    assert torch.equal(attend(chosen, query, key, value, layout_of(spans), kind=kind)[:, :, rows], expected)
