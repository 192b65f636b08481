"""A model that is set to an attention backend keeps it in guided layers."""

import logging

import pytest
import torch
from diffusers.models import attention_dispatch
from diffusers.models.attention_dispatch import AttentionBackendName
from torch.utils._python_dispatch import TorchDispatchMode

import vsf
from families.harness import STRONG, noise
from families.models import tiny_flux
from vsf.patching import backends

REGISTRY = attention_dispatch._AttentionBackendRegistry
NEGATIVE, LAYERS = 3, 4
ORTHOGONAL = vsf.ValueSignFlip(scale=2.0, offset=0.1, orthogonal=True)
EVERY = pytest.mark.parametrize("method", [STRONG, ORTHOGONAL, vsf.method("nag")], ids=["vsf", "orthogonal", "nag"])


@pytest.fixture(autouse=True)
def _own_backend(monkeypatch):
    """Give back the backend that diffusers keeps for the whole process: setting one model's sets that too."""
    monkeypatch.setattr(REGISTRY, "_active_backend", REGISTRY._active_backend)


@pytest.fixture
def model():
    return tiny_flux.transformer()


class TorchsOwn(TorchDispatchMode):
    """How many rows each call of torch's fused attention has."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ == "_scaled_dot_product_flash_attention_for_cpu":
            self.rows.append(args[0].shape[2])
        return function(*args, **(kwargs or {}))


@torch.no_grad()
def run(model, method=None):
    """The output, and the rows of each call of torch's fused attention."""
    inputs = tiny_flux.inputs(noise(1, 5, 32))
    with TorchsOwn() as own:
        if method is None:
            return model(**inputs, return_dict=False)[0], own.rows
        with vsf.guide(model, negative=vsf.Negative((noise(NEGATIVE, 32, seed=1),)), method=method):
            return model(**inputs, return_dict=False)[0], own.rows


def stand_in(monkeypatch, name, *, heads_first=True, option="return_lse", takes_bias=False):
    """Let a backend that needs a GPU be this; notes the calls it gets."""
    calls = []

    def attention(query, key, value, attn_mask=None, scale=None, **options):
        assert takes_bias or attn_mask is None
        calls.append((query.shape[1], key.shape[1]))
        q, k, v = (tensor.transpose(1, 2) for tensor in (query, key, value))
        logits = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)
        logits = logits if attn_mask is None else logits + attn_mask
        out, log_sum_exp = (logits.softmax(-1) @ v).transpose(1, 2), logits.logsumexp(-1)
        log_sum_exp = log_sum_exp if heads_first else log_sum_exp.transpose(1, 2)
        return (out, log_sum_exp) if options.get(option) else out

    monkeypatch.setitem(REGISTRY._backends, AttentionBackendName(name), attention)
    return calls


def close(one, other):
    return ((one - other).abs().max() / other.abs().max()).item() <= 1e-5


@EVERY
def test_a_backend_without_log_sum_exp_makes_all_calls_but_those_of_the_negatives_own_rows(model, method):
    expected, _ = run(model, method)
    model.set_attention_backend("_native_math")
    plain, rows = run(model)
    assert rows == []
    guided, rows = run(model, method)
    assert close(guided, expected)
    assert rows == [NEGATIVE] * LAYERS
    assert torch.equal(run(model)[0], plain)


@EVERY
@pytest.mark.parametrize(
    ("name", "heads_first", "option"),
    [("flash", True, "return_lse"), ("_flash_3", False, "return_lse"), ("_flash_3_hub", True, "return_attn_probs")],
)
def test_a_backend_with_log_sum_exp_is_asked_for_it(monkeypatch, model, method, name, heads_first, option):
    expected, _ = run(model, method)
    calls = stand_in(monkeypatch, name, heads_first=heads_first, option=option)
    monkeypatch.setattr(REGISTRY, "_active_backend", AttentionBackendName(name))  # the setter wants the package
    guided, rows = run(model, method)
    assert close(guided, expected)
    assert all(own <= 24 for own in rows)  # the negatives' own rows, and what image rows see of the negatives
    assert len(calls) == LAYERS * (1 if method != vsf.method("nag") else 3)


def test_the_layouts_stated_here_are_those_of_this_diffusers():
    """The names of the backends, and how they are asked, may change between releases."""
    for name, gives in backends._LOG_SUM_EXPS.items():
        assert gives.option in REGISTRY._supported_arg_names[AttentionBackendName(name)]
    for name in backends._TAKES_NO_BIAS:
        assert AttentionBackendName(name) in REGISTRY._backends


def test_a_backend_that_can_neither_is_named_once(monkeypatch, model, caplog):
    monkeypatch.setattr(backends._warn_once, "__wrapped__", None, raising=False)
    backends._warn_once.cache_clear()
    expected, _ = run(model, STRONG)
    calls = stand_in(monkeypatch, "sage_varlen")
    monkeypatch.setattr(REGISTRY, "_active_backend", AttentionBackendName.SAGE_VARLEN)
    with caplog.at_level(logging.WARNING):
        guided, _ = run(model, STRONG)
    assert close(guided, expected)
    assert len(calls) == LAYERS  # the text rows, which need no offset
    (said,) = [record.message for record in caplog.records if record.name == "vsf.patching.backends"]
    assert 'backend "sage_varlen"' in said


def test_context_parallelism_is_refused_by_name(model, monkeypatch):
    for module in model.modules():
        if hasattr(module, "processor"):
            monkeypatch.setattr(module.processor, "_parallel_config", object())
    with pytest.raises(vsf.UnsupportedAttentionError, match="parallel_config"):
        run(model, STRONG)
