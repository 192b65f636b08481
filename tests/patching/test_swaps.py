"""One-off subclasses and processor twins: they act while they stand, and leave nothing."""

import copy
import inspect
import pickle
import sys
import threading

import pytest
import torch
import torch.nn.functional as F

from vsf import UnsupportedAttentionError
from vsf.patching.processor_twins import ProcessorTwins, require_attention
from vsf.patching.swaps import Swap, calls_swapped, owner_of, swap_class

# One-off subclasses -----------------------------------------------------------------------------------------------


class Host:
    def __init__(self):
        self.calls = []

    def __call__(self, x, *, more=0):
        self.calls.append(x)
        return x + more


def doubled(original, self, x, **kwargs):
    return 2 * original(self, x, **kwargs)


def test_a_swapped_object_keeps_its_type_in_name_and_kind():
    host = Host()
    undo = swap_class(host, {"__call__": doubled})
    assert host(3, more=1) == 8
    assert isinstance(host, Host)
    assert (type(host).__name__, type(host).__module__, type(host).__qualname__) == ("Host", __name__, "Host")
    assert inspect.signature(type(host).__call__) == inspect.signature(Host.__call__)
    undo()
    assert type(host) is Host
    assert vars(host) == {"calls": [3]}


def test_other_objects_of_the_class_are_not_touched():
    swap_class(Host(), {"__call__": doubled})
    assert Host()(3) == 3


def test_an_object_swapped_twice_does_both_and_comes_back_in_two_steps():
    host = Host()
    inner = swap_class(host, {"__call__": doubled})
    once = type(host)
    outer = swap_class(host, {"__call__": doubled})
    assert host(1) == 4
    outer()
    assert type(host) is once
    inner()
    assert type(host) is Host


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda host: pickle.loads(pickle.dumps(host))])
def test_a_copy_has_the_hosts_own_class(duplicate):
    host = Host()
    host(7)
    swap_class(host, {"__call__": doubled})
    twin = duplicate(host)
    assert type(twin) is Host
    assert twin.calls == [7]


def test_the_owner_is_known_while_swapped():
    host, owner = Host(), object()
    assert owner_of(host) is None
    undo = swap_class(host, {}, owner)
    assert owner_of(host) is owner
    undo()
    assert owner_of(host) is None


def test_calls_are_given_back_after_an_error():
    hosts = [Host(), Host()]

    def fail():
        with calls_swapped([(host, doubled) for host in hosts]):
            assert [host(1) for host in hosts] == [2, 2]
            hosts[0]("no number")

    with pytest.raises(TypeError):
        fail()
    assert [type(host) for host in hosts] == [Host, Host]


# Processors as hosts write them -----------------------------------------------------------------------------------


def dispatch_attention_fn(query, key, value, attn_mask=None, dropout_p=0.0, *, backend=None):
    """Stands for the host's own: (batch, tokens, heads, channels)."""
    out = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (query, key, value)), attn_mask=attn_mask)
    return out.transpose(1, 2) + (100.0 if backend == "far" else 0.0)


class Fused:
    scale = 0.5

    def __call__(self, attn, x, mask=None):
        return F.scaled_dot_product_attention(x, x, x, mask, scale=self.scale) * attn.gain


class Dispatched:
    def __call__(self, attn, x):
        x = x.transpose(1, 2)
        return dispatch_attention_fn(x, x, x, backend="far").transpose(1, 2)


def attend_here(x):
    return F.scaled_dot_product_attention(x, x, x)


def attend_there(x):
    return attend_here(x)


class Indirect:
    def __call__(self, attn, x):
        return attend_there(x)


class Learned(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.0))

    def __call__(self, attn, x):
        return self.weight * F.scaled_dot_product_attention(x, x, x)


class Manual:
    """Writes its softmax out: there is no call to replace."""

    def __call__(self, attn, x):
        return torch.softmax(x @ x.transpose(-1, -2), -1) @ x


class Layer(torch.nn.Module):
    def __init__(self, processor, gain=1.0):
        super().__init__()
        self.processor, self.gain = processor, gain

    def forward(self, *args, **kwargs):
        return self.processor(self, *args, **kwargs)


class Attend:
    """Records what it is asked and answers with a constant, or leaves the call to the host."""

    def __init__(self, answer=7.0):
        self.answer, self.seen, self.dtypes = answer, [], set()

    def __call__(self, query, key, value, options):
        self.seen.append((tuple(query.shape), dict(options)))
        self.dtypes |= {query.dtype, key.dtype, value.dtype}
        return None if self.answer is None else torch.full_like(query, self.answer)


X = torch.linspace(-1, 1, 2 * 3 * 5 * 4).reshape(2, 3, 5, 4)  # batch, heads, tokens, channels


# Processor twins ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processor", [Fused, Dispatched, Indirect, Learned])
def test_attention_is_taken_over_while_the_twins_are_in_place(processor):
    layer, attend = Layer(processor()), Attend()
    plain = layer(X)
    twins = ProcessorTwins({"layer": (layer, attend)})
    with twins.in_place():
        assert torch.equal(layer(X), torch.full_like(X, 14.0 if processor is Learned else 7.0))
    assert torch.equal(layer(X), plain)
    assert [shape for shape, _ in attend.seen] == [(2, 3, 5, 4)]


@pytest.mark.parametrize("processor", [Fused, Dispatched, Indirect, Learned])
def test_a_call_left_to_the_host_gives_the_hosts_result(processor):
    layer = Layer(processor())
    with ProcessorTwins({"layer": (layer, Attend(answer=None))}).in_place():
        guided = layer(X)
    assert torch.equal(guided, layer(X))


def test_options_are_named_whichever_way_the_host_passes_them():
    attend, mask = Attend(), torch.zeros(5, 5)
    layers = {"fused": (Layer(Fused()), attend), "dispatched": (Layer(Dispatched()), attend)}
    with ProcessorTwins(layers).in_place():
        layers["fused"][0](X, mask)
        layers["dispatched"][0](X)
    fused, dispatched = (options for _, options in attend.seen)
    assert fused == {"attn_mask": mask, "scale": 0.5}
    assert dispatched["backend"] == "far"
    assert dispatched.keys() == {"backend", "host"}  # the host's own call, in the backend that the model is set to


def test_the_very_same_processor_stands_there_afterwards_also_after_an_error():
    processor = Fused()
    layer = Layer(processor)
    before = dict(vars(layer))

    def fail():
        with ProcessorTwins({"layer": (layer, Attend())}).in_place():
            assert layer.processor is not processor
            layer("no tensor")

    with pytest.raises(AttributeError):
        fail()
    assert layer.processor is processor
    assert vars(layer) == before


def test_a_learned_processor_stays_a_submodule_with_its_weights():
    processor = Learned()
    layer = Layer(processor)
    with ProcessorTwins({"layer": (layer, Attend())}).in_place():
        assert list(layer.state_dict()) == ["processor.weight"]
        assert layer.processor.weight is processor.weight
    assert layer.processor is processor


def test_a_processor_shared_with_a_layer_that_is_not_guided_stays_as_it_is():
    processor = Fused()
    guided, other = Layer(processor), Layer(processor)
    plain = other(X)
    with ProcessorTwins({"guided": (guided, Attend())}).in_place():
        assert torch.equal(other(X), plain)
        assert other.processor is processor


def test_what_is_set_on_the_processor_meanwhile_stays_set():
    layer = Layer(Fused())
    with ProcessorTwins({"layer": (layer, Attend(answer=None))}).in_place():
        layer.processor.scale = 2.0
        guided = layer(X)
    assert layer.processor.scale == 2.0
    assert torch.equal(layer(X), guided)


def test_a_processor_set_in_the_meantime_is_guided_too():
    layer, attend = Layer(Fused()), Attend()
    twins = ProcessorTwins({"layer": (layer, attend)})
    with twins.in_place():
        layer(X)
    layer.processor = replacement = Learned()
    with twins.in_place():
        assert torch.equal(layer(X), torch.full_like(X, 14.0))
    assert layer.processor is replacement


def test_a_twin_is_made_once():
    layer = Layer(Fused())
    twins, seen = ProcessorTwins({"layer": (layer, Attend())}), []
    for _ in range(2):
        with twins.in_place():
            seen.append(layer.processor)
    assert seen[0] is seen[1]


def test_hosts_that_inspect_the_signature_see_the_same():
    layer = Layer(Fused())
    with ProcessorTwins({"layer": (layer, Attend())}).in_place():
        assert inspect.signature(layer.processor.__call__) == inspect.signature(Fused().__call__)


@pytest.mark.parametrize("processor", [Manual(), Attend()], ids=["own softmax", "no attention"])
def test_a_processor_that_cannot_be_guided_is_refused_by_name(processor):
    with pytest.raises(UnsupportedAttentionError, match=f"layer blocks.3 uses {type(processor).__name__}"):
        ProcessorTwins({"blocks.3": (Layer(processor), Attend())})


def test_a_processor_set_later_that_cannot_be_guided_is_refused_and_all_is_put_back():
    first, second = Layer(Fused()), Layer(Fused())
    twins = ProcessorTwins({"first": (first, Attend()), "second": (second, Attend())})
    kept, second.processor = first.processor, Manual()
    with pytest.raises(UnsupportedAttentionError, match="second uses Manual"), twins.in_place():
        pass
    assert first.processor is kept


def test_no_module_stays_behind_outside_the_block():
    before = set(sys.modules)
    layer = Layer(Fused())
    twins = ProcessorTwins({"layer": (layer, Attend())})
    for _ in range(2):
        with twins.in_place():
            layer(X)
            assert set(sys.modules) - before
        assert set(sys.modules) == before


def test_under_autocast_the_attention_gets_one_dtype_as_torchs_own_would():
    attend = Attend()
    layer = Layer(Fused())
    with torch.autocast("cpu", dtype=torch.bfloat16), ProcessorTwins({"layer": (layer, attend)}).in_place():
        layer(X)
    assert attend.dtypes == {torch.bfloat16}


def test_diffusers_own_dispatching_processor_is_taken_over():
    from diffusers.models.transformers.transformer_flux import FluxAttention, FluxAttnProcessor

    attention = FluxAttention(query_dim=8, heads=2, dim_head=4, processor=FluxAttnProcessor())
    attend, hidden = Attend(answer=None), torch.randn(1, 6, 8)
    with torch.no_grad(), ProcessorTwins({"attn": (attention, attend)}).in_place():
        guided = attention(hidden)
    with torch.no_grad():
        assert torch.equal(attention(hidden), guided)
    assert attend.seen[0][0] == (1, 2, 6, 4)


# Classes that come and go in any order ----------------------------------------------------------------------------


def test_the_first_of_two_may_be_undone_first():
    host = Host()
    inner = swap_class(host, {"__call__": doubled})
    outer = swap_class(host, {"__call__": lambda original, self, x: 10 + original(self, x)})
    assert host(1) == 12
    inner()
    assert host(1) == 11
    outer()
    assert type(host) is Host


def test_an_undo_is_harmless_when_done_twice():
    host = Host()
    inner, outer = swap_class(host, {"__call__": doubled}), swap_class(host, {"__call__": doubled})
    inner(), inner()
    assert host(1) == 2
    outer(), outer()
    assert type(host) is Host


def test_what_is_put_on_again_is_the_same_class():
    host, swap = Host(), Swap({"__call__": doubled})
    swap.put_on(host)
    first = type(host)
    swap.take_off(host)
    swap.put_on(host)
    assert type(host) is first


def test_another_thread_waits_and_gets_what_it_asked_for():
    host, results = Host(), []
    with calls_swapped([(host, doubled)]):
        thread = threading.Thread(target=lambda: results.append(host(3)))
        thread.start()
        thread.join(0.05)
        assert results == []
        assert host(3) == 6
    thread.join()
    assert results == [3]


def test_a_guided_call_of_another_thread_does_not_make_a_layer_look_unknown():
    layer = Layer(Fused())
    require_attention("layer", layer)
    with ProcessorTwins({"layer": (layer, Attend())}, around=lambda attend, call: call()).in_place():
        assert type(layer.processor) is not Fused
        assert require_attention("layer", layer) is None  # it would raise for a processor that it does not know


def test_calls_around_a_processor_see_each_of_its_calls_and_keep_its_signature():
    layer, seen = Layer(Fused()), []

    def around(attend, call):
        seen.append(attend)
        return call()

    attend = Attend()
    with ProcessorTwins({"layer": (layer, attend)}, around).in_place():
        layer(X)
        assert inspect.signature(layer.processor.__call__) == inspect.signature(Fused().__call__)
    assert seen == [attend]
