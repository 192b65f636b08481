"""Graphs of ComfyUI in a PNG picture: the one that was run, and the one of the editor."""

import copy
import json

import pytest

from vsf.errors import RequestError
from vsf.generation import Request
from vsf.generation.metadata import comfyui

CLASSIC = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "some_model.safetensors"}},
    "2": {
        "class_type": "LoraLoader",
        "inputs": {"lora_name": "winter.safetensors", "model": ["1", 0], "clip": ["1", 1]},
    },
    "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "a (red:1.3) car on snow", "clip": ["2", 1]}},
    "4": {"class_type": "CLIPTextEncode", "inputs": {"text": "wheels", "clip": ["2", 1]}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 1}},
    "6": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 4711,
            "steps": 24,
            "cfg": 6.5,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
            "model": ["2", 0],
            "positive": ["3", 0],
            "negative": ["4", 0],
            "latent_image": ["5", 0],
        },
    },
    "7": {"class_type": "VAEDecode", "inputs": {"samples": ["6", 0], "vae": ["1", 2]}},
    "8": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["7", 0]}},
}
CUSTOM = {
    "1": {"class_type": "UNETLoader", "inputs": {"unet_name": "flow.safetensors"}},
    "2": {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "a red car"}},
    "3": {"class_type": "CLIPTextEncode", "inputs": {"text": ["2", 0]}},
    "4": {"class_type": "FluxGuidance", "inputs": {"guidance": 3.5, "conditioning": ["3", 0]}},
    "5": {"class_type": "BasicGuider", "inputs": {"model": ["1", 0], "conditioning": ["4", 0]}},
    "6": {"class_type": "RandomNoise", "inputs": {"noise_seed": 12}},
    "7": {"class_type": "BasicScheduler", "inputs": {"steps": ["9", 0], "denoise": 0.5, "model": ["1", 0]}},
    "8": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}},
    "9": {"class_type": "PrimitiveInt", "inputs": {"value": 6}},
    "10": {"class_type": "LoadImage", "inputs": {"image": "start.png"}},
    "11": {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0]}},
    "12": {
        "class_type": "SamplerCustomAdvanced",
        "inputs": {
            "noise": ["6", 0],
            "guider": ["5", 0],
            "sampler": ["8", 0],
            "sigmas": ["7", 0],
            "latent_image": ["11", 0],
        },
    },
}
EDITOR = {
    "nodes": [
        {"id": 1, "type": "CheckpointLoaderSimple", "widgets_values": ["some_model.safetensors"]},
        {"id": 3, "type": "CLIPTextEncode", "widgets_values": ["a red car"], "inputs": [{"name": "clip", "link": 20}]},
        {"id": 4, "type": "CLIPTextEncode", "widgets_values": ["wheels"], "inputs": [{"name": "clip", "link": None}]},
        {"id": 5, "type": "EmptyLatentImage", "widgets_values": [64, 32, 1]},
        {
            "id": 6,
            "type": "KSampler",
            "widgets_values": [9, "randomize", 4, 1.5, "euler", "normal", 1],
            "inputs": [
                {"name": "model", "link": 10},
                {"name": "positive", "link": 11},
                {"name": "negative", "link": 12},
                {"name": "latent_image", "link": 13},
            ],
        },
    ],
    "links": [
        [10, 1, 0, 6, 0, "MODEL"],
        [11, 3, 0, 6, 1, "CONDITIONING"],
        [12, 4, 0, 6, 2, "CONDITIONING"],
        [13, 5, 0, 6, 3, "LATENT"],
        [20, 1, 1, 3, 0, "CLIP"],
    ],
}


def read(graph, key=comfyui.KEY):
    return comfyui.read({key: json.dumps(graph)})


def changed(graph, node, **inputs):
    graph_copy = copy.deepcopy(graph)
    graph_copy[node]["inputs"] |= inputs
    return graph_copy


def test_a_graph_that_was_run_becomes_fields_of_a_request():
    recipe = read(CLASSIC)
    assert recipe.fields == {"steps": 24, "seed": 4711, "guidance_scale": 6.5, "size": (512, 768)}
    assert (recipe.prompt, recipe.negative) == ("a (red:1.3) car on snow", "wheels")
    assert recipe.model == "some_model.safetensors"
    assert recipe.left_out == ("the sampler euler", "the LoRA winter.safetensors")
    request = Request(**recipe.repeat({"model": "owner/name", "steps": 4}))
    assert (request.steps, request.wanted.negatives) == (4, {"wheels": 1.0})


def test_values_are_found_where_the_nodes_leave_them_to_others():
    recipe = read(CUSTOM)
    assert recipe.fields == {"steps": 6, "seed": 12, "guidance_scale": 3.5, "strength": 0.5}
    assert (recipe.prompt, recipe.negative, recipe.model) == ("a red car", "", "flow.safetensors")
    assert recipe.left_out == ("the sampler euler",)
    assert "give that with --image" in " ".join(recipe.reproduction_warnings({}))


def test_the_editors_graph_is_read_where_there_is_no_other():
    recipe = read(EDITOR, comfyui.EDITOR_KEY)
    assert recipe.fields == {"steps": 4, "seed": 9, "guidance_scale": 1.5, "size": (64, 32)}
    assert (recipe.prompt, recipe.negative, recipe.model) == ("a red car", "wheels", "some_model.safetensors")
    chunks = {comfyui.KEY: json.dumps(CLASSIC), comfyui.EDITOR_KEY: json.dumps(EDITOR)}
    assert comfyui.read(chunks) == read(CLASSIC)


def test_of_a_picture_that_was_drawn_and_then_refined_the_first_sampler_tells():
    refined = {
        **CLASSIC,
        "20": {"class_type": "LatentUpscale", "inputs": {"samples": ["6", 0], "width": 1024, "height": 1536}},
        "21": {
            **CLASSIC["6"],
            "inputs": {**CLASSIC["6"]["inputs"], "latent_image": ["20", 0], "seed": 1, "denoise": 0.4},
        },
    }
    assert read(refined) == read(CLASSIC)


def test_text_is_found_behind_what_changes_its_embedding():
    nodes = {
        "30": {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["3", 0]}},
        "31": {"class_type": "CLIPTextEncodeFlux", "inputs": {"clip_l": "", "t5xxl": "at night"}},
        "32": {
            "class_type": "ConditioningCombine",
            "inputs": {"conditioning_1": ["3", 0], "conditioning_2": ["31", 0]},
        },
        "33": {"class_type": "ControlNetApplyAdvanced", "inputs": {"positive": ["32", 0], "negative": ["4", 0]}},
    }
    recipe = read(changed({**CLASSIC, **nodes}, "6", positive=["33", 0], negative=["33", 1]))
    assert (recipe.prompt, recipe.negative) == ("a (red:1.3) car on snow, at night", "wheels")
    assert read(changed({**CLASSIC, **nodes}, "6", negative=["30", 0])).negative == ""


LOOP = {"class_type": "ConditioningAverage", "inputs": {"conditioning_to": ["40", 0], "conditioning_from": ["40", 0]}}
MALFORMED = {
    "no JSON": ("{", "is not JSON"),
    "a text in place of a graph": ('"a red car"', "is no graph of nodes"),
    "a list": ("[]", "is no graph of nodes"),
    "nothing": ("{}", "no sampler"),
    "a node that is none": ('{"1": 3}', 'the node "1" of its "prompt" has no inputs'),
    "a node without inputs": ('{"1": {"class_type": "KSampler", "inputs": []}}', 'the node "1"'),
    "brackets without end": ("[" * 100_000, "is not JSON"),
    "no steps": (json.dumps(changed(CLASSIC, "6", steps="many")), "does not tell the steps"),
    "a seed that leads nowhere": (json.dumps(changed(CLASSIC, "6", seed=["99", 0])), "does not tell the seed"),
    "no text": (json.dumps(changed(CLASSIC, "3", text=3)), "no text that leads to the sampler"),
    "a link of lists": (json.dumps(changed(CLASSIC, "6", positive=[[], {}])), "no text that leads to the sampler"),
    "a circle": (json.dumps(changed({**CLASSIC, "40": LOOP}, "6", positive=["40", 0])), "no text that leads"),
    "two pictures": (json.dumps({**CLASSIC, "60": CLASSIC["6"]}), "2 samplers that draw pictures of their own"),
}


@pytest.mark.parametrize(("text", "message"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_graphs_are_refused_by_what_is_wrong_with_them(text, message):
    with pytest.raises(RequestError, match=message):
        comfyui.read({comfyui.KEY: text})


@pytest.mark.parametrize(
    "change",
    [
        {"nodes": None},
        {"nodes": [3]},
        {"nodes": [{"id": [], "type": {}, "inputs": [3], "widgets_values": {"seed": 1}}]},
        {"links": 3},
        {"links": [3, [1], [[], {}, None]]},
    ],
)
def test_malformed_graphs_of_the_editor_are_refused(change):
    with pytest.raises(RequestError):
        read({**EDITOR, **change}, comfyui.EDITOR_KEY)


def test_a_chain_without_end_is_refused():
    chain = {
        str(number): {"class_type": "ConditioningSetArea", "inputs": {"conditioning": [str(number + 1), 0]}}
        for number in range(100, 10_000)
    }
    with pytest.raises(RequestError, match="too deep"):
        read(changed({**CLASSIC, **chain}, "6", positive=["100", 0]))
