"""A real server: every example workflow, with a model of its kind that is tiny; interrupted runs; peers beside it."""

import copy
import io
import json
import time

import numpy as np
import pytest

from comfyui.hosts import HAS_HOST, NO_HOST
from comfyui.server import PACK, Server

WORKFLOWS = PACK / "example_workflows" / "api"
KINDS = {
    "sd35-turbo": "sd3.5-medium",
    "flux-schnell": "flux-schnell",
    "flux2-klein": "flux2",
    "qwen-image-lightning": "qwen-image",
    "z-image-turbo": "z-image",
    "wan-lightx2v": "wan-t2v",
    "sdxl-turbo": "sdxl",
}
"""The model that stands in for that of a workflow, whose checkpoint nobody has here."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if not HAS_HOST:
        pytest.skip(NO_HOST)
    server = Server(tmp_path_factory.mktemp("server") / "base")
    yield server
    server.close()


def workflow(name: str) -> dict:
    return json.loads((WORKFLOWS / f"{name}.json").read_text())


def nodes_of(flow: dict, kind: str) -> list[str]:
    return [number for number, node in flow.items() if node["class_type"] == kind]


def plain(flow: dict) -> dict:
    """The workflow without guidance and what comes of it."""
    flow = copy.deepcopy(flow)
    (guidance,) = nodes_of(flow, "VSFGuidance")
    model = flow[guidance]["inputs"]["model"]
    heat = nodes_of(flow, "VSFHeatMap")
    gone = {guidance, *nodes_of(flow, "VSFReport"), *heat}
    gone |= {n for n, node in flow.items() if any(link[0] in heat for link in node["inputs"].values() if is_link(link))}
    for number in gone:
        del flow[number]
    for node in flow.values():
        for name, value in node["inputs"].items():
            if value == [guidance, 0]:
                node["inputs"][name] = model
    return flow


def is_link(value) -> bool:
    return isinstance(value, list) and len(value) == 2


def made_tiny(flow: dict, kind: str) -> dict:
    """The workflow with a random model in place of its checkpoint, random texts, and latents for a picture."""
    flow = copy.deepcopy(flow)
    loaders = ("CheckpointLoaderSimple", "UNETLoader")
    for number, node in list(flow.items()):
        inputs = node["inputs"]
        if node["class_type"] in loaders:
            flow[number] = {"class_type": "TestModel", "inputs": {"name": kind}}
        elif node["class_type"] in ("CLIPTextEncode", "VSFEncodeNegative"):
            of_positive = node["class_type"] == "CLIPTextEncode"
            text = {"name": kind, "tokens": 7 if of_positive else 5, "seed": 2 if of_positive else 3}
            flow[number] = {"class_type": "TestText", "inputs": text}
        elif node["class_type"].startswith("Empty"):
            inputs.update({"width": 64, "height": 64}, **({"length": 5} if "length" in inputs else {}))
        elif node["class_type"] == "Flux2Scheduler":
            inputs.update({"width": 64, "height": 64})
        elif node["class_type"] == "VAEDecode":
            saved = {"samples": inputs["samples"], "filename_prefix": "latents"}
            flow[number] = {"class_type": "SaveLatent", "inputs": saved}
        elif node["class_type"] == "LoraLoaderModelOnly":
            for other in flow.values():
                for name, value in other["inputs"].items():
                    if value == [number, 0]:
                        other["inputs"][name] = inputs["model"]
            del flow[number]
        elif node["class_type"] == "VSFReport":
            (decode,) = nodes_of(flow, "SaveLatent")
            inputs["after"] = flow[decode]["inputs"]["samples"]
    unused = ("CLIPLoader", "DualCLIPLoader", "TripleCLIPLoader", "VAELoader", "SaveImage", "CreateVideo", "SaveVideo")
    return {number: node for number, node in flow.items() if node["class_type"] not in unused}


def test_the_tiny_workflow_draws_and_reports(server):
    flow = workflow("tiny")
    outputs = server.run(flow)
    (report,) = nodes_of(flow, "VSFReport")
    (text,) = outputs[report]["text"]
    assert "24 attention calls guided in 8 denoiser calls (3 layers)" in text
    assert "NEVER" not in text
    assert sum(len(output.get("images", ())) for output in outputs.values()) == 2


def test_every_guider_and_sampler_node_draws_the_same_at_cfg_1(server):
    flow = workflow("tiny")
    (sampler,) = nodes_of(flow, "SamplerCustom")
    expected = server.picture(flow)
    given = flow[sampler]["inputs"]
    for guider in ("BasicGuider", "CFGGuider"):
        other = copy.deepcopy(flow)
        conds = {"conditioning": given["positive"]}
        if guider == "CFGGuider":
            conds = {"positive": given["positive"], "negative": given["negative"], "cfg": 1.0}
        other["noise"] = {"class_type": "RandomNoise", "inputs": {"noise_seed": given["noise_seed"]}}
        other["guider"] = {"class_type": guider, "inputs": {"model": given["model"], **conds}}
        rest = {name: given[name] for name in ("sampler", "sigmas", "latent_image")}
        other[sampler] = {
            "class_type": "SamplerCustomAdvanced",
            "inputs": {"noise": ["noise", 0], "guider": ["guider", 0], **rest},
        }
        assert pixels(server.picture(other)).tobytes() == pixels(expected).tobytes(), guider


def test_after_an_interrupted_run_the_plain_picture_is_the_same_bytes(server):
    flow = workflow("tiny")
    before = pixels(server.picture(plain(flow)))
    long = copy.deepcopy(flow)
    (loader,) = nodes_of(long, "VSFTinyModel")
    long[loader]["inputs"]["steps"] = 100
    (sampler,) = nodes_of(long, "SamplerCustom")
    long[sampler]["inputs"]["noise_seed"] = 77
    number = server.queue(long)
    time.sleep(1.5)
    server.call("/interrupt", {})
    kinds = [kind for kind, _ in server.wait(number)["status"]["messages"]]
    assert "execution_interrupted" in kinds
    again = plain(flow)
    (save,) = nodes_of(again, "SaveImage")
    again[save]["inputs"]["filename_prefix"] = "again"
    after = pixels(server.picture(again))
    assert after.tobytes() == before.tobytes()


@pytest.mark.parametrize("name", KINDS)
def test_every_example_workflow_runs_with_a_tiny_model_of_its_kind(server, name):
    kinds = server.call("/object_info/TestModel")
    assert kinds, "the models for tests are not there"
    if KINDS[name] not in available():
        pytest.skip(f"this host has no {KINDS[name]}")
    flow = made_tiny(workflow(name), KINDS[name])
    outputs = server.run(flow)
    (report,) = nodes_of(flow, "VSFReport")
    (text,) = outputs[report]["text"]
    assert "attention calls guided" in text
    assert "NEVER" not in text


def available() -> list[str]:
    from comfyui.hosts import REAL, model_names

    return model_names(REAL)


def test_wrong_inputs_are_refused_in_words(server):
    flow = workflow("tiny")
    (guidance,) = nodes_of(flow, "VSFGuidance")
    flow[guidance]["inputs"]["start"] = 0.9
    flow[guidance]["inputs"]["end"] = 0.1
    with pytest.raises(RuntimeError, match="start has to lie at or before end"):
        server.run(flow)


def test_beside_the_hosts_own_nag_on_the_same_model(server):
    """The host's node works on code of Flux's kind alone; on others it takes twice the rows and changes nothing."""
    if not server.call("/object_info/NAGuidance"):
        pytest.skip("this host has no NAGuidance")
    flow = workflow("tiny")
    unguided = pixels(server.picture(plain(flow)))
    theirs = copy.deepcopy(flow)
    (guidance,) = nodes_of(theirs, "VSFGuidance")
    knobs = {"nag_scale": 9.0, "nag_alpha": 0.5, "nag_tau": 5.0}
    theirs[guidance] = {"class_type": "NAGuidance", "inputs": {"model": theirs[guidance]["inputs"]["model"], **knobs}}
    for kind in ("VSFReport", "VSFHeatMap", "PreviewImage"):
        for number in nodes_of(theirs, kind):
            del theirs[number]
    ours = copy.deepcopy(flow)
    ours[guidance]["inputs"].update(
        {"method": "nag", "method.scale": 9.0, "method.tau": 5.0, "method.alpha": 0.5, "method.norm": "l1"}
    )
    moved = [float(np.abs(pixels(server.picture(own)) - unguided).max()) for own in (theirs, ours)]
    assert moved[0] <= 1
    assert moved[1] > 50


def pixels(png: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(png))).astype(np.int16)
