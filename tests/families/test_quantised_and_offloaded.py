"""Weights that are quantised, or not where they compute: guided as if they were ordinary ones, or refused."""

from functools import partial
from importlib import import_module

import accelerate
import diffusers
import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from diffusers import FluxTransformer2DModel, GGUFQuantizationConfig
from packaging.version import Version
from torch import nn

import vsf
from families.harness import NEGATIVE, OFF, STRONG, Case, difference, registered

CASES = {str(case): case for case in registered("CASES")}
FEW = [CASES[name] for name in ("flux", "wan", "z_image", "lumina2", "hunyuan_video", "minimax_h3", "qwen_image21")]
CPU = torch.device("cpu")

pytestmark = pytest.mark.families
every_case = pytest.mark.parametrize("case", FEW, ids=str)


def guided(case: Case, model, method=STRONG):
    with vsf.guide(model, negative=vsf.Negative((case.text(NEGATIVE, seed=100)[0],)), method=method):
        return case.run(model, case.text())


def assert_guided_alike(case, model, expected, tolerance=0.0):
    """Nothing changes where the method is off, and where it is on the result is the expected one."""
    plain = case.run(model, case.text())
    assert torch.equal(guided(case, model, OFF), plain)
    got = guided(case, model)
    assert difference(got, expected) <= tolerance
    assert difference(got, plain) > 1e-4
    assert torch.equal(case.run(model, case.text()), plain)


# Moved ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    Version(diffusers.__version__) < Version("0.41") and not torch.accelerator.is_available(),
    reason="diffusers before 0.41 asks for an accelerator even to offload to the CPU",
)
@every_case
@pytest.mark.parametrize("level", ["leaf_level", "block_level"])
def test_group_offload(case, level):
    expected, model = guided(case, case.model()), case.model()
    size = {"num_blocks_per_group": 1} if level == "block_level" else {}
    model.enable_group_offload(onload_device=CPU, offload_device=CPU, offload_type=level, **size)
    assert_guided_alike(case, model, expected)


@every_case
def test_sequential_offload(case):
    expected, model = guided(case, case.model()), case.model()
    accelerate.cpu_offload(model, execution_device=CPU)
    assert next(model.parameters()).is_meta
    assert_guided_alike(case, model, expected)


class Moving(ModelHook):
    """Brings a model's weights in before its forward, and takes them out again behind it: without them it is NaN."""

    def init_hook(self, module):
        self.weights = {name: weight.clone() for name, weight in module.named_parameters()}
        return self.post_forward(module, module)

    def pre_forward(self, module, *args, **kwargs):
        for name, weight in module.named_parameters():
            weight.data.copy_(self.weights[name])
        return args, kwargs

    def post_forward(self, module, output):
        for weight in module.parameters():
            weight.data.fill_(torch.nan)
        return output


@every_case
def test_model_offload_in_the_order_of_its_hooks(case):
    expected, model = guided(case, case.model()), case.model()
    add_hook_to_module(model, Moving())
    assert next(model.parameters()).isnan().all()
    assert_guided_alike(case, model, expected)


# Quantised --------------------------------------------------------------------------------------------------------


@every_case
def test_int8_weights_of_torchao(case):
    torchao = pytest.importorskip("torchao.quantization")
    model, plain = case.model(), case.model()
    torchao.quantize_(model, torchao.Int8WeightOnlyConfig())
    for name, part in model.named_modules():
        if isinstance(part, nn.Linear):
            plain.get_submodule(name).weight.data = part.weight.dequantize()
    assert difference(guided(case, plain), guided(case, case.model())) > 1e-4
    assert_guided_alike(case, model, guided(case, plain), 1e-5)


def with_linears(model, make):
    """The model with other linear layers in its blocks; `make` is called as torch's own is."""
    for name, part in list(model.named_modules()):
        if isinstance(part, nn.Linear) and ("blocks" in name or "layers" in name):
            parent, _, own = name.rpartition(".")
            other = make(part.in_features, part.out_features, bias=part.bias is not None)
            other.load_state_dict(part.state_dict())
            setattr(model.get_submodule(parent), own, other)
    return model.to(CPU).eval()  # bitsandbytes quantises a layer where it is moved to


@every_case
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_four_bit_weights_of_bitsandbytes(case, kind):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    four_bits = partial(bitsandbytes.nn.Linear4bit, compute_dtype=torch.float32, quant_type=kind)
    model, plain = with_linears(case.model(), four_bits), case.model()
    for name, part in model.named_modules():
        if isinstance(part, bitsandbytes.nn.Linear4bit):
            part.train()  # else it is packed for this processor, which takes multiples of 32 rows only
            weight = bitsandbytes.functional.dequantize_4bit(part.weight.data, part.weight.quant_state)
            plain.get_submodule(name).weight.data = weight
    assert difference(guided(case, plain), guided(case, case.model())) > 1e-4
    assert_guided_alike(case, model, guided(case, plain), 1e-5)


@every_case
def test_eight_bit_weights_of_bitsandbytes_with_a_scale_for_each_token(case):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    eight_bits = partial(bitsandbytes.nn.Linear8bitLt, has_fp16_weights=False, threshold=0.0)
    model, expected = with_linears(case.model(), eight_bits), guided(case, case.model())
    assert 0 < difference(guided(case, model), expected) <= 0.02
    assert_guided_alike(case, model, expected, 0.02)


@every_case
def test_channels_with_outliers_of_bitsandbytes_follow_all_tokens_but_change_less_than_the_rounding(case):
    """Where any token has a large number in a channel, that channel is 16 bits wide for all tokens."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    eight_bits = partial(bitsandbytes.nn.Linear8bitLt, has_fp16_weights=False, threshold=1.0)
    model = with_linears(case.model(), eight_bits)
    plain = case.run(model, case.text())
    rounding = difference(plain, case.run(case.model(), case.text()))
    assert difference(guided(case, model, OFF), plain) < rounding


@every_case
def test_fp8_layerwise_casting(case):
    model, plain = case.model(), case.model()
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    casted = [name for name, weight in model.named_parameters() if weight.dtype == torch.float8_e4m3fn]
    assert casted
    for name in casted:
        weight = plain.get_parameter(name)
        weight.data = weight.data.to(torch.float8_e4m3fn).float()
    assert_guided_alike(case, model, guided(case, plain))


def test_a_gguf_file(tmp_path):
    gguf = pytest.importorskip("gguf")
    unpacked = import_module("diffusers.quantizers.gguf.utils").dequantize_gguf_tensor
    case = CASES["flux"]
    plain = case.model()
    plain.save_config(tmp_path)
    writer = gguf.GGUFWriter(tmp_path / "flux.gguf", "flux")
    for name, weight in plain.state_dict().items():
        kind = gguf.GGMLQuantizationType.Q8_0 if weight.ndim == 2 and weight.shape[1] % 32 == 0 else None
        values = weight.numpy() if kind is None else gguf.quants.quantize(weight.numpy(), kind)
        writer.add_tensor(name, values, raw_dtype=kind)
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    model = FluxTransformer2DModel.from_single_file(
        str(tmp_path / "flux.gguf"),
        config=str(tmp_path),
        quantization_config=GGUFQuantizationConfig(compute_dtype=torch.float32),
        torch_dtype=torch.float32,
    )
    packed = {name: part for name, part in model.named_modules() if type(part).__name__ == "GGUFLinear"}
    assert packed
    for name, part in packed.items():
        plain.get_submodule(name).weight.data = unpacked(part.weight).float()
    assert_guided_alike(case, model, guided(case, plain), 1e-6)


def test_one_scale_for_the_activations_of_all_tokens_is_refused():
    case = CASES["flux"]
    model = torch.ao.quantization.quantize_dynamic(case.model(), {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(vsf.UnsupportedPipelineError, match="one scale for all tokens"):
        guided(case, model)


def test_one_scale_of_torchao_for_the_activations_of_all_tokens_is_refused():
    torchao = pytest.importorskip("torchao.quantization")
    case = CASES["flux"]
    model = case.model()
    torchao.quantize_(model, torchao.Int8DynamicActivationInt8WeightConfig(granularity=torchao.PerTensor()))
    with pytest.raises(vsf.UnsupportedPipelineError, match="one scale for all tokens"):
        guided(case, model)


def test_a_scale_for_each_token_of_the_activations_is_not():
    torchao = pytest.importorskip("torchao.quantization")
    case = CASES["flux"]
    model = case.model()
    torchao.quantize_(model, torchao.Int8DynamicActivationInt8WeightConfig())
    plain = case.run(model, case.text())
    assert torch.equal(guided(case, model, OFF), plain)
    assert difference(guided(case, model), plain) > 1e-4
