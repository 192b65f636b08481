"""Metadata in ComfyUI's format: the graph of nodes that was run, as JSON in the text of a PNG picture.

The chunk "prompt" maps the id of each node to its class and inputs; an input is a value or a link [id, output]. The
chunk "workflow" holds the editor's graph, which lists values without names; it is read, for ComfyUI's own nodes, if the
first chunk is missing.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vsf.errors import RequestError
from vsf.generation.metadata.recipe import Recipe

# Keys of the text chunks.
KEY = "prompt"
EDITOR_KEY = "workflow"
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
"""The order of a node's values in the editor's graph; "" stands for a value that only the editor uses."""


@dataclass(frozen=True, slots=True)
class _Node:
    kind: str
    inputs: Mapping[str, Any]


class _Graph:
    """Nodes by id, with lookups along their links."""

    def __init__(self, nodes: Mapping[str, _Node]) -> None:
        self.nodes = nodes

    def source(self, node: _Node, name: str) -> _Node | None:
        """Return the node that an input is linked to; None if it is a value or missing."""
        link = node.inputs.get(name)
        return self.nodes.get(str(link[0])) if isinstance(link, list) and link else None

    def upstream(self, node: _Node, *names: str) -> Iterator[_Node]:
        """Yield all nodes that a node depends on, the nearest first: through the named inputs of it, or through all."""
        queue = deque(self.source(node, name) for name in names or node.inputs)
        visited: set[int] = set()
        while queue:
            source = queue.popleft()
            if source is None or id(source) in visited:
                continue
            visited.add(id(source))
            yield source
            queue.extend(self.source(source, name) for name in source.inputs)

    def number(self, node: _Node, name: str) -> int | float | None:
        """Return the number of an input, or of the node that it is linked to."""
        number = self._value(node, name, _NUMBERS, (int, float))
        return number if isinstance(number, int | float) else None

    def whole_number(self, node: _Node, name: str) -> int | None:
        """Return the whole number of an input, or of the node that it is linked to."""
        number = self._value(node, name, _NUMBERS, (int,))
        return number if isinstance(number, int) else None

    def text(self, node: _Node, name: str) -> str | None:
        """Return the text of an input, or of the node that it is linked to."""
        text = self._value(node, name, _TEXTS, (str,))
        return text if isinstance(text, str) else None

    def _value(self, node: _Node, name: str, source_inputs: Sequence[str], kinds: tuple[type, ...]) -> object:
        """Return an input's value if it is of these kinds, or the first such among the inputs of its linked node."""
        candidates = [node.inputs.get(name)]
        if source := self.source(node, name):
            candidates += [source.inputs.get(source_input) for source_input in source_inputs]
        for value in candidates:
            if isinstance(value, kinds) and not isinstance(value, bool):
                return value
        return None


def read(chunks: Mapping[str, str]) -> Recipe:
    """Parse the graph in the text chunks.

    Raises:
        RequestError: there is no graph, or none from which one picture comes in a known way.
    """
    try:
        return _recipe(_parse_run(chunks[KEY]) if KEY in chunks else _parse_editor(chunks[EDITOR_KEY]))
    except RecursionError as error:
        raise RequestError("its graph is too deep.") from error


def _recipe(graph: _Graph) -> Recipe:
    sampler = _first_sampler(graph)
    guider = graph.source(sampler, "guider") or sampler
    positive = "positive" if "positive" in guider.inputs else "conditioning"
    fields: dict[str, Any] = {
        "steps": _sampler_number(graph, sampler, "sigmas", ["steps"]),
        "seed": _sampler_number(graph, sampler, "noise", ["seed", "noise_seed"]),
    }
    guidance_scale = _guidance_scale(graph, guider, positive)
    if guidance_scale is not None:
        fields["guidance_scale"] = guidance_scale
    latent_nodes = list(graph.upstream(sampler, "latent_image"))
    for node in latent_nodes:
        if size := _size(graph, node):
            fields["size"] = size
            break  # the nearest node decides
    if any(node.kind.startswith("LoadImage") for node in latent_nodes):
        schedule = graph.source(sampler, "sigmas") or sampler
        fields["strength"] = graph.number(schedule, "denoise") or 1.0
    prompt = _text(graph, guider, positive, "positive", frozenset())
    if not prompt.strip():
        raise RequestError(f'its "{KEY}" has no text that leads to the sampler as the prompt.')
    model, loras = _file_names(graph, guider)
    sampler_name = (graph.source(sampler, "sampler") or sampler).inputs.get("sampler_name")
    left_out = [f"the sampler {sampler_name}"] if isinstance(sampler_name, str) else []
    left_out += [f"the LoRA {name}" for name in loras]
    return Recipe(
        tool=TOOL,
        fields=fields,
        prompt=prompt,
        negative=_text(graph, guider, "negative", "negative", frozenset()),
        model=model,
        left_out=tuple(left_out),
    )


def _json_object(text: str, key: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f'its "{key}" is not JSON: {error}.') from error
    if not isinstance(document, dict):
        raise RequestError(f'its "{key}" is no graph of nodes.')
    return document


def _parse_run(text: str) -> _Graph:
    """Parse the graph that was run."""
    nodes: dict[str, _Node] = {}
    for name, node in _json_object(text, KEY).items():
        if not isinstance(node, dict) or not isinstance(node.get("inputs"), dict):
            raise RequestError(f'the node "{name}" of its "{KEY}" has no inputs.')
        nodes[name] = _Node(str(node.get("class_type")), node["inputs"])
    return _Graph(nodes)


def _parse_editor(text: str) -> _Graph:
    """Parse the editor's graph, which numbers its links and lists values in the order of the node's fields."""
    document = _json_object(text, EDITOR_KEY)
    links: dict[str, list[Any]] = {}
    for link in _list(document, "links"):
        if isinstance(link, list) and len(link) >= 3:  # link id, source id, source output, ...
            links[str(link[0])] = [link[1], link[2]]
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
                inputs[str(socket.get("name"))] = link
        nodes[str(node.get("id"))] = _Node(kind, inputs)
    return _Graph(nodes)


def _list(entries: Mapping[str, Any], name: str) -> list[Any]:
    value = entries.get(name)
    return value if isinstance(value, list) else []


def _first_sampler(graph: _Graph) -> _Node:
    """Return the sampler that draws from noise or a loaded picture; any others refine its picture."""
    samplers = [node for node in graph.nodes.values() if "latent_image" in node.inputs]
    first_samplers = []
    for sampler in samplers:
        if not any(node in samplers for node in graph.upstream(sampler, "latent_image")):
            first_samplers.append(sampler)
    if len(first_samplers) != 1:
        count = len(first_samplers)
        samplers_text = f"{count} samplers that draw pictures of their own" if count else "no sampler"
        raise RequestError(f"its graph has {samplers_text}; one is needed.")
    return first_samplers[0]


def _sampler_number(graph: _Graph, sampler: _Node, link: str, names: Sequence[str]) -> int:
    """Return a whole number of the sampler, or of the node that provides it through a link."""
    owner = graph.source(sampler, link) or sampler
    for name in names:
        number = graph.whole_number(owner, name)
        if number is not None:
            return number
    raise RequestError(f"its graph does not tell the {names[0]} of the sampler.")


def _guidance_scale(graph: _Graph, guider: _Node, positive: str) -> int | float | None:
    """Return the scale of a distilled model, which acts on the prompt's embedding, or otherwise that of the guider."""
    for node in graph.upstream(guider, positive):
        if node.kind == "FluxGuidance":
            scale = graph.number(node, "guidance")
            return graph.number(guider, "cfg") if scale is None else scale
    return graph.number(guider, "cfg")


def _size(graph: _Graph, node: _Node) -> tuple[int, int] | None:
    width = graph.whole_number(node, "width")
    height = graph.whole_number(node, "height")
    return None if width is None or height is None else (width, height)


def _text(graph: _Graph, node: _Node, name: str, role: str, visited: frozenset[int]) -> str:
    """Return the text that an input was encoded from, through any nodes that change its embedding on the way."""
    source = graph.source(node, name)
    if source is None or source.kind == "ConditioningZeroOut" or id(source) in visited:
        return ""
    for input_name in _TEXTS:
        if text := graph.text(source, input_name):
            return text
    # A node with two conditionings, such as a ControlNet, hands each on in its role; others combine all of theirs.
    if role in source.inputs:
        return _text(graph, source, role, role, visited | {id(source)})
    texts = []
    for link in source.inputs:
        if link.startswith("conditioning"):
            texts.append(_text(graph, source, link, role, visited | {id(source)}))
    return ", ".join(filter(None, texts))


def _file_names(graph: _Graph, guider: _Node) -> tuple[str, list[str]]:
    """Return the name of the model, "" for none, and those of the LoRAs."""
    models: dict[str, None] = {}  # ordered sets
    loras: dict[str, None] = {}
    for node in graph.upstream(guider):
        for input_name, names in (("ckpt_name", models), ("unet_name", models), ("lora_name", loras)):
            name = node.inputs.get(input_name)
            if isinstance(name, str):
                names[name] = None
    return next(iter(models), ""), list(loras)
