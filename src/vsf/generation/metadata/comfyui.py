"""Metadata as ComfyUI writes them: the graph of nodes that was run, as JSON in the text of a PNG picture.

The chunk "prompt" maps each node's id to its class and inputs, an input being a value or a link [id, output]. The chunk
"workflow" holds what the editor shows, where values stand without their names; it is read for ComfyUI's own nodes where
the first is missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vsf.errors import RequestError
from vsf.generation.metadata.recipe import Recipe

KEY, EDITOR_KEY = "prompt", "workflow"  # of the text chunks
TOOL = "ComfyUI"
_TEXTS = ("text", "t5xxl", "text_g", "clip_g", "text_l", "clip_l", "prompt", "value", "string")
_NUMBERS = ("value", "seed", "noise_seed", "int", "float", "number")
_WIDGETS: Mapping[str, Sequence[str]] = {
    "KSampler": ("seed", "", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": ("add_noise", "noise_seed", "", "steps", "cfg", "sampler_name", "scheduler"),
    "RandomNoise": ("noise_seed",),
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "KSamplerSelect": ("sampler_name",),
    "CFGGuider": ("cfg",),
    "FluxGuidance": ("guidance",),
    "CLIPTextEncode": ("text",),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name",),
    "LoraLoader": ("lora_name",),
    "LoraLoaderModelOnly": ("lora_name",),
    "EmptyLatentImage": ("width", "height"),
    "EmptySD3LatentImage": ("width", "height"),
    "PrimitiveInt": ("value",),
    "PrimitiveFloat": ("value",),
    "PrimitiveString": ("value",),
    "PrimitiveStringMultiline": ("value",),
}
"""The order of a node's values in the editor's graph; "" for one that is the editor's own."""


@dataclass(frozen=True, slots=True)
class _Node:
    kind: str
    inputs: Mapping[str, Any]


class _Graph:
    """Nodes by id, and the walks over their links."""

    def __init__(self, nodes: Mapping[str, _Node]) -> None:
        self.nodes = nodes

    def source(self, node: _Node, name: str) -> _Node | None:
        """Return the node that an input is linked to, None for a value or nothing."""
        link = node.inputs.get(name)
        return self.nodes.get(str(link[0])) if isinstance(link, list) and link else None

    def upstream(self, node: _Node, *names: str) -> Iterator[_Node]:
        """Walk through all nodes before one, the nearest first; through these inputs of it, or through all."""
        waiting = [self.source(node, name) for name in names or node.inputs]
        seen: set[int] = set()
        while waiting:
            before = waiting.pop(0)
            if before is None or id(before) in seen:
                continue
            seen.add(id(before))
            yield before
            waiting += [self.source(before, name) for name in before.inputs]

    def value(self, node: _Node, name: str, at: Sequence[str], kind: type | tuple[type, ...]) -> Any:
        """Return an input's value of a kind, or where it is linked, the one that its source holds; None for none."""
        value = node.inputs.get(name)
        if isinstance(value, kind) and not isinstance(value, bool):
            return value
        source = self.source(node, name)
        values = [source.inputs.get(name) for name in at] if source else []
        return next((value for value in values if isinstance(value, kind) and not isinstance(value, bool)), None)


def read(chunks: Mapping[str, str]) -> Recipe:
    """Read what stands in the chunks.

    Raises:
        RequestError: no graph, or none from which one picture comes in a way that is known here.
    """
    try:
        return _recipe(_run(chunks[KEY]) if KEY in chunks else _edited(chunks[EDITOR_KEY]))
    except RecursionError as error:
        raise RequestError("its graph is too deep.") from error


def _recipe(graph: _Graph) -> Recipe:
    sampler = _sampler(graph)
    guider = graph.source(sampler, "guider") or sampler
    fields: dict[str, Any] = {
        "steps": _number(graph, sampler, "sigmas", ["steps"]),
        "seed": _number(graph, sampler, "noise", ["seed", "noise_seed"]),
    }
    positive = "positive" if "positive" in guider.inputs else "conditioning"
    distilled = [node for node in graph.upstream(guider, positive) if node.kind == "FluxGuidance"]
    scale = graph.value(distilled[0], "guidance", _NUMBERS, (int, float)) if distilled else None
    scale = graph.value(guider, "cfg", _NUMBERS, (int, float)) if scale is None else scale
    if scale is not None:
        fields["guidance_scale"] = scale
    before = [*graph.upstream(sampler, "latent_image")]
    if size := next(filter(None, (_size(graph, node) for node in before)), None):
        fields["size"] = size
    if any(node.kind.startswith("LoadImage") for node in before):
        schedule = graph.source(sampler, "sigmas") or sampler
        fields["strength"] = graph.value(schedule, "denoise", _NUMBERS, (int, float)) or 1.0
    prompt = _text(graph, guider, positive, "positive", frozenset())
    if not prompt.strip():
        raise RequestError(f'its "{KEY}" has no text that leads to the sampler as the prompt.')
    names = {name: value for node in graph.upstream(guider) for name, value in _names(node).items()}
    chosen = graph.source(sampler, "sampler") or sampler
    return Recipe(
        TOOL,
        fields,
        prompt,
        _text(graph, guider, "negative", "negative", frozenset()),
        next((name for name, what in names.items() if what == "model"), ""),
        (
            *(f"the sampler {name}" for name in [chosen.inputs.get("sampler_name")] if isinstance(name, str)),
            *(f"the LoRA {name}" for name, what in names.items() if what == "lora"),
        ),
    )


def _json(text: str, key: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f'its "{key}" is not JSON: {error}.') from error
    if not isinstance(document, dict):
        raise RequestError(f'its "{key}" is no graph of nodes.')
    return document


def _run(text: str) -> _Graph:
    """Read the graph that was run."""
    nodes: dict[str, _Node] = {}
    for name, node in _json(text, KEY).items():
        if not isinstance(node, dict) or not isinstance(node.get("inputs"), dict):
            raise RequestError(f'the node "{name}" of its "{KEY}" has no inputs.')
        nodes[name] = _Node(str(node.get("class_type")), node["inputs"])
    return _Graph(nodes)


def _edited(text: str) -> _Graph:
    """Read the editor's graph: links have numbers there, and values the order of the node's fields."""
    document = _json(text, EDITOR_KEY)
    links = {str(link[0]): link for link in _list(document, "links") if isinstance(link, list) and len(link) >= 3}
    nodes: dict[str, _Node] = {}
    for node in _list(document, "nodes"):
        if not isinstance(node, dict):
            raise RequestError(f'its "{EDITOR_KEY}" holds a node that is no JSON object.')
        kind = str(node.get("type"))
        values = zip(_WIDGETS.get(kind, ()), _list(node, "widgets_values"), strict=False)
        inputs = {name: value for name, value in values if name}
        for socket in _list(node, "inputs"):
            link = links.get(str(socket.get("link"))) if isinstance(socket, dict) else None
            if link is not None:
                inputs[str(socket.get("name"))] = [link[1], link[2]]
        nodes[str(node.get("id"))] = _Node(kind, inputs)
    return _Graph(nodes)


def _list(entries: Mapping[str, Any], name: str) -> list[Any]:
    value = entries.get(name)
    return value if isinstance(value, list) else []


def _sampler(graph: _Graph) -> _Node:
    """Return the node that draws from noise or a loaded picture: the first, where others refine what it drew."""
    samplers = [node for node in graph.nodes.values() if "latent_image" in node.inputs]
    first = [node for node in samplers if not any(other in samplers for other in graph.upstream(node, "latent_image"))]
    if len(first) != 1:
        found = f"{len(first)} samplers that draw pictures of their own" if first else "no sampler"
        raise RequestError(f"its graph has {found}; one is needed.")
    return first[0]


def _number(graph: _Graph, sampler: _Node, link: str, names: Sequence[str]) -> int:
    """Return a whole number of the sampler, or of the node that it leaves that to."""
    owner = graph.source(sampler, link) or sampler
    numbers = (graph.value(owner, name, _NUMBERS, int) for name in names)
    number = next((number for number in numbers if number is not None), None)
    if number is None:
        raise RequestError(f"its graph does not tell the {names[0]} of the sampler.")
    return int(number)


def _size(graph: _Graph, node: _Node) -> tuple[int, int] | None:
    sides = [graph.value(node, name, _NUMBERS, int) for name in ("width", "height")]
    return None if None in sides else (sides[0], sides[1])


def _text(graph: _Graph, node: _Node, name: str, role: str, seen: frozenset[int]) -> str:
    """Return the text that an input was encoded from, through whatever changes its embedding on the way."""
    before = graph.source(node, name)
    if before is None or before.kind == "ConditioningZeroOut" or id(before) in seen:
        return ""
    texts = (graph.value(before, known, _TEXTS, str) for known in _TEXTS)
    if text := next(filter(None, texts), ""):
        return str(text)
    passed = [role] if role in before.inputs else [link for link in before.inputs if link.startswith("conditioning")]
    parts = (_text(graph, before, link, role, seen | {id(before)}) for link in passed)
    return ", ".join(filter(None, parts))


def _names(node: _Node) -> dict[str, str]:
    """Return the names of files in a node: of a model or a LoRA."""
    kinds = {"ckpt_name": "model", "unet_name": "model", "lora_name": "lora"}
    return {str(node.inputs[name]): kind for name, kind in kinds.items() if isinstance(node.inputs.get(name), str)}
