"""One denoiser call as every host sees it: no diffusers, no model, only what its layers hand over."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from vsf.attention.layout import Span, TokenLayout
from vsf.controls.grid import Grid
from vsf.controls.region import Region
from vsf.errors import KnobError
from vsf.guidance import AttentionPlan, Control, HostCall, guided_attention, method
from vsf.hosting import GuidedCall, HostAttention, Role

TEXT = (Span("positive", 5), Span("negative", 3))
JOINT, CROSS = Role("joint"), Role("cross")


def tensors(queries, keys, batch=1, heads=2):
    return [torch.randn(batch, heads, n, 8) for n in (queries, keys, keys)]


@pytest.mark.parametrize("name", ["vsf", "nag"])
def test_layers_are_guided_as_one_call_alone_is(name):
    call = GuidedCall(method(name), [TEXT])
    for _ in range(2):
        q, k, v = tensors(16 + 8, 16 + 8)
        layout = TokenLayout((Span("image", 16), *TEXT))
        assert torch.equal(call.attend(JOINT, q, k, v), guided_attention(method(name), HostCall(q, k, v), layout))
        q, k, v = tensors(16, 8)
        expected = guided_attention(method(name), HostCall(q, k, v, "cross"), TokenLayout(TEXT))
        assert torch.equal(call.attend(CROSS, q, k, v), expected)
    assert call.calls == 4


def test_a_plan_is_made_once_for_every_shape(monkeypatch):
    made, real = [], AttentionPlan.__init__

    def counting(plan, method, call, *args, **options):
        made.append(tuple(call.query.shape))
        real(plan, method, call, *args, **options)

    monkeypatch.setattr(AttentionPlan, "__init__", counting)
    call = GuidedCall(method("vsf"), [TEXT], inactive={"off"})
    for _ in range(3):
        for images in (16, 4):
            call.attend(CROSS, *tensors(images, 8), name="on")
    call.attend(CROSS, *tensors(4, 8), name="off")
    assert made == [(1, 2, 16, 8), (1, 2, 4, 8), (1, 2, 4, 8)]


def test_image_tokens_come_behind_the_text_where_the_role_says_so():
    front = (Span("negative", 3), Span("positive", 5))
    q, k, v = tensors(24, 24)
    out = GuidedCall(method("vsf"), [front]).attend(Role("joint", image="last"), q, k, v)
    order = [*range(8, 24), *range(3, 8), *range(3)]
    behind = GuidedCall(method("vsf"), [TEXT]).attend(JOINT, q[:, :, order], k[:, :, order], v[:, :, order])
    torch.testing.assert_close(out[:, :, order], behind)


@pytest.mark.parametrize(
    ("role", "queries", "keys", "sees"),
    [
        (JOINT, 24, 24, True),
        (JOINT, 16, 16, True),
        (JOINT, 8, 8, False),
        (JOINT, 24, 20, False),
        (CROSS, 16, 8, True),
        (CROSS, 16, 16, False),
        (Role("text"), 8, 8, True),
        (Role("text"), 24, 24, False),
    ],
)
def test_calls_of_other_sizes_do_not_see_the_text(role, queries, keys, sees):
    assert GuidedCall(method("vsf"), [TEXT]).sees_text(role, queries, keys) is sees


def test_keys_without_rows_are_told_by_the_exact_sizes_of_the_call():
    spans = (*TEXT, Span("kept", 4), Span("image", 16))
    call = GuidedCall(method("nag"), [spans])
    sizes = [(24, 28), (28, 28), (4, 4), (16, 28), (24, 24)]
    assert [call.sees_text(JOINT, *size) for size in sizes] == [True, False, False, False, False]
    q, k, v = tensors(24, 28)
    expected = guided_attention(method("nag"), HostCall(q, k, v), TokenLayout(spans))
    assert torch.equal(call.attend(JOINT, q, k, v), expected)


@pytest.mark.parametrize("dtype", [None, torch.bool, torch.float32], ids=["", "boolean mask", "mask"])
@pytest.mark.parametrize("name", ["vsf", "nag"])
def test_negatives_may_come_as_keys_that_stand_in_no_call(name, dtype):
    spans = (Span("positive", 5), Span("kept", 4), Span("image", 16), Span("negative", 3))
    static = {layer: tuple(torch.randn(1, 2, 3, 8) for _ in range(2)) for layer in ("one", "other")}
    call = GuidedCall(method(name), [spans], negative_keys=static)
    sizes = [(16, 25), (16, 28), (25, 25), (5, 5), (4, 9)]
    assert [call.sees_text(CROSS, *size) for size in sizes] == [True, False, False, False, False]
    mask = None
    if dtype is not None:
        mask = (torch.randn(1, 1, 1, 25) > 0) if dtype == torch.bool else torch.randn(1, 1, 16, 25)
        mask[..., 0] = True
    whole = None if mask is None else F.pad(mask, (0, 3), value=mask.dtype == torch.bool)
    for layer, (key, value) in static.items():
        q, k, v = tensors(16, 25)
        keys = torch.cat([k, key], 2), torch.cat([v, value], 2)
        expected = guided_attention(method(name), HostCall(q, *keys, "cross", whole), TokenLayout(spans))
        assert torch.equal(call.attend(CROSS, q, k, v, bias=mask, name=layer), expected)


def test_a_layer_that_is_inactive_or_attends_to_text_alone_is_the_unguided_one():
    call = GuidedCall(method("vsf"), [TEXT], inactive={"off"})
    q, k, v = tensors(16, 8)
    unguided = F.scaled_dot_product_attention(q, k[:, :, :5], v[:, :, :5])
    assert torch.equal(call.attend(CROSS, q, k, v, name="off"), unguided)
    q, k, v = tensors(8, 8)
    text = call.attend(Role("text"), q, k, v)
    parts = [F.scaled_dot_product_attention(q[:, :, at], k[:, :, at], v[:, :, at]) for at in (slice(5), slice(5, 8))]
    torch.testing.assert_close(text, torch.cat(parts, 2))
    assert call.calls == 0


@pytest.mark.parametrize("text", [TEXT, (*TEXT, Span("negative", 4)), (*TEXT[::-1],)], ids=["", "two", "in front"])
def test_in_a_causal_layer_each_text_sees_its_own_tokens_so_far(text):
    tokens = TokenLayout(text).tokens
    q, k, v = (each.double() for each in tensors(tokens, tokens))
    call = GuidedCall(method("vsf"), [text])
    out = call.attend(Role("text"), q, k, v, causal=True)
    start = 0
    for span in text:
        for last in range(start, start + span.length):
            own = slice(start, last + 1)
            logits = q[:, :, last : last + 1] @ k[:, :, own].mT / 8**0.5
            expected = logits.softmax(-1) @ v[:, :, own]
            torch.testing.assert_close(out[:, :, last : last + 1], expected, rtol=0, atol=1e-12)
        start += span.length
    assert torch.equal(call.attend(Role("text"), q, k, v, causal=True), out)


def test_the_mask_of_causal_layers_is_made_once():
    call = GuidedCall(method("vsf"), [TEXT])
    masks = []
    attend = AttentionPlan.attend
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AttentionPlan, "attend", lambda plan, host: masks.append(host.bias) or attend(plan, host))
        for _ in range(2):
            call.attend(Role("text"), *tensors(8, 8), causal=True)
    assert masks[0] is masks[1]


def test_a_region_is_laid_on_the_grid_of_every_layer():
    left = Region((0, 0, 0.5, 1))
    call = GuidedCall(method("vsf"), [TEXT], region=left, grid=Grid(4, 4), strength=0.5)
    for side in (4, 2):
        q, k, v = tensors(side * side, 8)
        strength = 0.5 * (torch.arange(side) < side / 2).float().repeat(side)
        control = Control(strength=strength)
        expected = guided_attention(method("vsf"), HostCall(q, k, v, "cross"), TokenLayout(TEXT), control=control)
        assert torch.equal(call.attend(CROSS, q, k, v), expected)
    with pytest.raises(KnobError, match="a region needs a grid"):
        GuidedCall(method("vsf"), [TEXT], region=left)


def test_a_region_leaves_tokens_before_and_behind_the_grid_alone():
    left = Region((0, 0, 0.5, 1))
    call = GuidedCall(method("vsf"), [TEXT], region=left, grid=Grid(1, 2, frames=2, before=3), strength=0.5)
    q, k, v = tensors(8, 8)
    control = Control(strength=torch.tensor([0, 0, 0, 0.5, 0, 0.5, 0, 0]))
    expected = guided_attention(method("vsf"), HostCall(q, k, v, "cross"), TokenLayout(TEXT), control=control)
    assert torch.equal(call.attend(CROSS, q, k, v), expected)


def test_what_is_observed_comes_with_the_name_of_the_layer():
    seen = []
    call = GuidedCall(method("vsf"), [TEXT], record=lambda *entry: seen.append(entry))
    call.attend(CROSS, *tensors(16, 8), name="first")
    call.attend(CROSS, *tensors(16, 8))
    call.attend(Role("cross", picture=False), *tensors(16, 8), name="sound")
    assert [name for name, _ in seen] == ["first"]
    assert seen[0][1].mass.shape == (1, 1, 16)


# The host's own attention -----------------------------------------------------------------------------------------


class Counting:
    """A host's attention; notes how many queries and keys each of its calls has."""

    def __init__(self, gives_log_sum_exp, takes_bias=True):
        self.calls, self.takes_bias = [], takes_bias
        self.attention = HostAttention(self.plain, self.fused if gives_log_sum_exp else None, takes_bias)

    def plain(self, query, key, value, bias=None, scale=None):
        self.calls.append((query.shape[2], key.shape[2]))
        assert bias is None or self.takes_bias
        return F.scaled_dot_product_attention(query, key, value, bias, scale=scale)

    def fused(self, query, key, value, *, attn_mask, scale):
        self.calls.append((query.shape[2], key.shape[2]))
        assert attn_mask is None or self.takes_bias
        logits = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
        logits = logits if attn_mask is None else logits + attn_mask
        return logits.softmax(-1) @ value, logits.logsumexp(-1)


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize(("gives", "takes"), [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("name", ["vsf", "nag", "ong", "negpip"])
def test_the_hosts_attention_makes_what_the_unguided_model_attends_to(name, gives, takes, masked):
    q, k, v = tensors(24, 24, batch=2)
    bias = torch.randn(1, 1, 1, 24) if masked else None
    valid = torch.tensor([[True] * 3, [True, False, True]])
    call = GuidedCall(method(name), [TEXT], valid=valid, unguided=())
    host = Counting(gives, takes)
    out = call.attend(JOINT, q, k, v, bias=bias, host=host.attention)
    expected = GuidedCall(method(name), [TEXT], valid=valid, unguided=()).attend(JOINT, q, k, v, bias=bias)
    real = torch.tensor([[True] * 24, [*[True] * 22, False, True]])
    torch.testing.assert_close(out.transpose(1, 2)[real], expected.transpose(1, 2)[real])
    assert any(queries >= 16 for queries, _ in host.calls) or (masked and not takes) or not (gives or takes)
    if name != "negpip":  # in which they are a part of the prompt
        assert all(queries > 3 for queries, _ in host.calls)  # the negatives' own rows are no call of the host's


def test_a_host_that_gives_the_log_sum_exp_is_asked_once_for_value_sign_flip():
    host = Counting(gives_log_sum_exp=True)
    GuidedCall(method("vsf", offset=0.3), [TEXT]).attend(JOINT, *tensors(24, 24), host=host.attention)
    assert host.calls == [(21, 21)]


def test_a_host_that_gives_none_is_asked_for_all_keys_at_once():
    host = Counting(gives_log_sum_exp=False)
    GuidedCall(method("vsf", offset=0.3), [TEXT]).attend(JOINT, *tensors(24, 24), host=host.attention)
    assert sorted(host.calls) == [(5, 21), (16, 24)]


def test_the_room_imports_torch_alone():
    script = "import sys, vsf.hosting; print([name for name in sys.argv[1:] if name in sys.modules])"
    others = ("diffusers", "transformers", "triton", "PIL")
    done = subprocess.run([sys.executable, "-c", script, *others], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
