"""The nodes: their inputs come from the registry, and they do what their inputs say. Stub `io` or a real one."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import vsf
from comfyui import stub, stub_api
from comfyui.guiding import guided
from comfyui.hosts import HAS_HOST, REAL, host_module
from vsf.guidance import METHODS, knobs

PACK = Path(__file__).parents[2] / "apps" / "comfyui"
SETTINGS = {
    "weight": 1.0,
    "start": 0.0,
    "end": 1.0,
    "curve": "constant",
    "over": "steps",
    "blocks": "",
    "observe": False,
}


@pytest.fixture(scope="module")
def nodes():
    if HAS_HOST:
        host_module(REAL)
    elif "comfy_api" not in sys.modules:
        stub_api.install()
    import vsf_comfyui.nodes as nodes

    return nodes


@pytest.fixture(scope="module")
def all_nodes(nodes):
    return asyncio.run(asyncio.run(nodes.comfy_entrypoint()).get_node_list())


def by_id(inputs):
    return {own.id: own for own in inputs}


def test_every_method_that_acts_in_the_attention_is_offered_with_its_own_knobs(nodes):
    schema = nodes.Guidance.define_schema()
    options = {option.key: by_id(option.inputs) for option in by_id(schema.inputs)["method"].options}
    assert set(options) == set(METHODS) - {"none", "cfg"}
    for name, inputs in options.items():
        declared = {knob.name: knob for knob in knobs(METHODS[name]) if knob.name != "layout"}
        assert set(inputs) == set(declared) | {f"{name}_auto" for name in declared if declared[name].takes_auto}
        for knob in declared.values():
            own = inputs[knob.name]
            assert (own.default, own.tooltip) == (knob.default, knob.help)
            if knob.choices and not isinstance(knob.default, bool):
                assert list(own.options) == list(knob.choices)
            if not knob.choices:
                assert own.min == knob.low
                assert own.max == min(knob.high, 100)


def test_what_a_method_is_given_is_what_its_inputs_say(nodes):
    for name in nodes.OFFERED:
        defaults = {own.id: own.default for own in by_id_of(nodes, name)}
        assert nodes.chosen_method({"method": name, **defaults}) == METHODS[name]()
    chosen = {"method": "vsf", "scale": 3.0, "scale_auto": True}
    assert nodes.chosen_method(chosen) == vsf.ValueSignFlip(scale="auto")
    assert chosen["method"] == "vsf", "what the host handed over stays as it is"


def by_id_of(nodes, name):
    return next(option.inputs for option in nodes.method_options() if option.key == name)


def test_every_node_says_what_it_and_its_settings_are_for_and_has_a_help_page(all_nodes):
    for node in all_nodes:
        schema = node.define_schema()
        assert schema.description
        assert schema.node_id.startswith("VSF")
        page = (PACK / "web" / "docs" / f"{schema.node_id}.md").read_text()
        for own in schema.inputs:
            assert f"`{own.id}`" in page, f"{schema.node_id}'s page does not tell of {own.id}"
    assert len({node.define_schema().node_id for node in all_nodes}) == len(all_nodes) == 6


def test_the_guidance_node_guides_a_clone(nodes):
    patcher, case = stub.make("flux-schnell")
    positive, negative = case.conditioning(7, 2), case.conditioning(5, 3)
    method = {"method": "nasa", "scale": 0.4, "scale_auto": False}
    inputs = {**SETTINGS, "weight": 0.5, "end": 0.7, "curve": "linear", "blocks": "1", "observe": True}
    own, trace = nodes.Guidance.execute(patcher, negative, method, mask=torch.ones(1, 4, 4), **inputs).args
    want = guided(
        patcher, negative, method=vsf.NegativeAwaySteerAttention(scale=0.4), weights=[0.5],
        schedule=vsf.Schedule(0.0, 0.7, "linear", "1"), mask=torch.ones(1, 4, 4),
    )  # fmt: skip
    with torch.no_grad():
        came = stub.sample(own, case, positive)
        assert torch.equal(came, stub.sample(want, case, positive))
        assert not torch.equal(came, stub.sample(patcher, case, positive))
    assert "nasa on Flux" in nodes.Report.execute(trace, came).args[0]
    assert nodes.HeatMap.execute(trace, came, 0).args[0].shape[-1] == 3


def test_a_guidance_node_of_weight_nothing_adds_nothing(nodes):
    patcher, case = stub.make("flux-schnell")
    method = {"method": "nasa", "scale": 0.4, "scale_auto": False}
    negative = case.conditioning(5, 3)
    own, _ = nodes.Guidance.execute(patcher, negative, method, **{**SETTINGS, "weight": 0.0}).args
    with torch.no_grad():
        positive = case.conditioning(7, 2)
        assert torch.equal(stub.sample(own, case, positive), stub.sample(patcher, case, positive))


def test_a_checkpoint_without_a_text_encoder_is_an_error_that_says_so(nodes):
    with pytest.raises(vsf.KnobError, match="there is no CLIP"):
        nodes.EncodeNegative.execute(None, "wheels", "")


def test_without_comfyui_the_import_says_where_the_pack_belongs():
    paths = os.pathsep.join([str(PACK), *(path for path in sys.path if path and "ComfyUI" not in path)])
    host = os.environ.get("COMFYUI_PATH", "no host")
    paths = os.pathsep.join(path for path in paths.split(os.pathsep) if path != host)
    run = subprocess.run(
        [sys.executable, "-c", "import vsf_comfyui.nodes"], capture_output=True, text=True, cwd=PACK,
        env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert run.returncode == 1
    assert "the nodes of vsf run inside ComfyUI 0.8.0 or newer, and comfy is not here" in run.stderr


def test_one_module_alone_imports_comfyui():
    texts = {path.name: path.read_text() for path in (PACK / "vsf_comfyui").glob("*.py")}
    importing = [name for name, text in texts.items() if "import comfy" in text or "from comfy" in text]
    assert importing == ["host.py"]
