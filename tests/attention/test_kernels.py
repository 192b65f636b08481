"""The kernels that need a GPU cannot run here; what is done around them can."""

from itertools import product
from types import SimpleNamespace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from vsf.attention import kernels

ATEN = {
    "flash": "_scaled_dot_product_flash_attention",
    "efficient": "_scaled_dot_product_efficient_attention",
    "cudnn": "_scaled_dot_product_cudnn_attention",
}


BIASES = ["no", "key", "row", "begins late", "odd rows", "one for all keys"]


def plain(query, key, value, bias, scale):
    logits = query @ key.mT * scale
    logits = logits if bias is None else logits + bias
    return torch.softmax(logits, -1) @ value, torch.logsumexp(logits, -1)


class StandIn:
    """Takes a GPU operation's place: insists on what the operation insists on and hands back what it hands back."""

    def __init__(self, name):
        self.name = name

    def __call__(self, query, key, value, bias=None, compute_log_sum_exp=True, *, scale=None):
        assert query.shape[-1] % 8 == key.shape[-1] % 8 == value.shape[-1] % 8 == 0
        assert compute_log_sum_exp
        assert scale is not None
        if bias is not None:
            assert self.name != "flash"
            assert bias.shape == (*query.shape[:3], key.shape[2])
            assert bias.stride(-1) == 1
            assert all(stride % 16 == 0 for stride in bias.stride()[:-1])
            assert bias.storage_offset() % 16 == 0
        out, log_sum_exp = plain(query, key, value, bias, scale)
        if self.name == "efficient":
            log_sum_exp = torch.nn.functional.pad(log_sum_exp, (0, -query.shape[2] % 32), value=torch.inf)
        if self.name == "cudnn":
            log_sum_exp = log_sum_exp[..., None]
        return out, log_sum_exp, torch.empty(0), torch.empty(0)


@pytest.mark.parametrize("scale", [None, 0.2])
@pytest.mark.parametrize("channels", [8, 12, 33, 64])
@pytest.mark.parametrize(("name", "biased"), [("flash", "no"), *product(["efficient", "cudnn"], BIASES)])
def test_padding_alignment_and_trimming_change_no_number(monkeypatch, name, channels, biased, scale):
    monkeypatch.setattr(torch.ops.aten, ATEN[name], StandIn(name))
    query = torch.randn(2, 3, 7, channels, dtype=torch.float64)
    key, value = torch.randn(2, 2, 3, 16, channels, dtype=torch.float64)
    wide = torch.randn(2, 1, 7, 32, dtype=torch.float64)
    biases = {"no": None, "key": wide[:1, :, :1, :16].contiguous(), "row": wide[..., :16].contiguous()}
    bias = (
        biases
        | {
            "begins late": wide[..., 5:21],
            "odd rows": torch.randn(2, 1, 7, 23, dtype=torch.float64)[..., :16],
            "one for all keys": wide[..., :1],
        }
    )[biased]
    out, log_sum_exp = getattr(kernels, f"_cuda_{name}")(query, key, value, attn_mask=bias, scale=scale)
    expected = plain(query, key, value, bias, channels**-0.5 if scale is None else scale)
    torch.testing.assert_close(out, expected[0])
    torch.testing.assert_close(log_sum_exp, expected[1])


@pytest.mark.parametrize("name", ATEN)
def test_the_operations_of_this_torch_take_the_arguments_they_are_given(name):
    query, key, value = (torch.empty(2, 3, n, 12, device="meta", dtype=torch.float16) for n in (7, 5, 5))
    bias = None if name == "flash" else torch.empty(1, 1, 1, 5, device="meta", dtype=torch.float16)
    out, log_sum_exp = getattr(kernels, f"_cuda_{name}")(query, key, value, attn_mask=bias)
    assert out.shape == (2, 3, 7, 12)
    assert log_sum_exp.shape == (2, 3, 7)


HALF, FULL, BIAS = torch.float16, torch.float32, torch.zeros(1, 1, 1, 5)


ORDERS = {9: (3, 1, 2, 0, 4), 8: (1, 2, 3, 0, 4), 7: (1, 2, 3, 0, 4)}
"""In which order torch tries its kernels on each generation of GPUs: 1 flash, 2 memory-efficient, 3 cuDNN."""


def picked(monkeypatch, dtype, channels, biased, major=9):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(major=major))
    monkeypatch.setattr(kernels, "_torchs_order", lambda _: ORDERS[major])
    return kernels.best_kernel(torch.device("cuda"), dtype, channels, biased=biased)


@pytest.mark.parametrize(
    ("dtype", "channels", "biased", "major", "expected"),
    [
        (HALF, 64, False, 9, "_cuda_cudnn"),
        (HALF, 64, False, 8, "_cuda_flash"),
        (torch.bfloat16, 256, False, 9, "_cuda_flash"),
        (torch.bfloat16, 256, False, 8, "_cuda_flash"),
        (HALF, 64, True, 9, "_cuda_cudnn"),
        (HALF, 64, True, 8, "_cuda_efficient"),
        (HALF, 320, False, 9, "_cuda_efficient"),
        (HALF, 64, False, 7, "_cuda_efficient"),
        (FULL, 64, False, 9, "_cuda_efficient"),
        (torch.float64, 64, False, 9, None),
    ],
)
def test_a_gpu_kernel_is_the_first_in_torchs_order_that_serves(monkeypatch, dtype, channels, biased, major, expected):
    kernel = picked(monkeypatch, dtype, channels, biased, major)
    assert (kernel and kernel.__name__) == expected


def test_torchs_own_switches_pick_the_kernel_too(monkeypatch):
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        assert picked(monkeypatch, HALF, 64, biased=True) is kernels._cuda_cudnn
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        assert picked(monkeypatch, HALF, 64, biased=False) is kernels._cuda_flash
    with sdpa_kernel(SDPBackend.MATH):
        assert picked(monkeypatch, HALF, 64, biased=False) is None
        query = torch.empty(1, 1, 4, 64)
        assert kernels.kernel_for(query, query, query, None) is None


def test_the_order_is_the_one_that_torch_keeps():
    with sdpa_kernel([SDPBackend.MATH, SDPBackend.FLASH_ATTENTION], set_priority=True):
        order = torch._C._get_sdp_priority_order()
        assert kernels._torchs_order("cpu") == tuple(order)
        assert order[0] == SDPBackend.MATH.value
    assert (
        SDPBackend.FLASH_ATTENTION.value,
        SDPBackend.EFFICIENT_ATTENTION.value,
        SDPBackend.CUDNN_ATTENTION.value,
    ) == (kernels._FLASH, kernels._EFFICIENT, kernels._CUDNN)


def test_the_cpu_has_one_kernel_for_every_dtype():
    for dtype in (torch.float64, FULL, torch.bfloat16, HALF):
        query = torch.empty(1, 1, 4, 64, dtype=dtype)
        assert kernels.kernel_for(query, query, query, BIAS.to(dtype)) is kernels.CPU_FLASH


def test_no_fused_kernel_is_taken_where_gradients_are_wanted():
    query = torch.empty(1, 1, 4, 64, requires_grad=True)
    assert kernels.kernel_for(query, query, query, None) is None
    with torch.no_grad():
        assert kernels.kernel_for(query, query, query, None) is kernels.CPU_FLASH


def test_other_devices_have_no_kernel_with_a_log_sum_exp():
    query = torch.empty(1, 1, 4, 64, device="meta")
    assert kernels.kernel_for(query, query, query, None) is None
