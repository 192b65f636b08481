"""Metadata as AUTOMATIC1111's web UI, and the tools that follow it, write them into the text of a PNG picture.

First the prompt, then lines that begin with "Negative prompt:", then one line "Steps: 20, Seed: 1, Size: 64x64, ...".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from vsf.errors import RequestError
from vsf.generation.metadata.recipe import Recipe
from vsf.text.prompt import Prompt

KEY = "parameters"  # of the text chunk
TOOL = "AUTOMATIC1111"
NEGATIVE = "Negative prompt:"
_PIECE = re.compile(r'(?:"(?:\\.|[^"\\])*"|[^",]|")+')  # between commas, but not those in quotes
_EXTRA_NETWORK = re.compile(r"<(?:lora|lyco|hypernet):([^:>]+)[^>]*>")


def read(text: str) -> Recipe:
    """Read what stands in the chunk.

    Raises:
        RequestError: there is no line with steps and seed, or a value in it is none.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    number = next((number for number in reversed(range(len(lines))) if lines[number].startswith("Steps:")), None)
    if number is None:
        raise RequestError(f'its "{KEY}" has no line that begins with "Steps:".')
    settings = _settings(lines[number])
    head = next((at for at in range(number) if lines[at].startswith(NEGATIVE)), number)
    prompt, negative = "\n".join(lines[:head]), "\n".join(lines[head:number]).removeprefix(NEGATIVE)
    networks = [f"the LoRA {name}" for name in _EXTRA_NETWORK.findall(prompt + negative)]
    sampler = [f"the sampler {settings['Sampler']}"] if "Sampler" in settings else []
    return Recipe(
        TOOL,
        _fields(settings),
        _EXTRA_NETWORK.sub("", prompt).strip(),
        _EXTRA_NETWORK.sub("", negative).strip(),
        settings.get("Model", ""),
        (*sampler, *networks),
    )


def write(metadata: Mapping[str, Any]) -> str:
    """Write the chunk of a picture from its own metadata, as `provenance.describe` returns them."""
    written = metadata["negative"]
    negatives = {written: 1.0} if isinstance(written, str) else written
    wanted = Prompt.parse(metadata["prompt"], negatives)
    positive = Prompt(wanted.positive, {}, wanted.emphasis)
    lines = [str(positive)]
    if wanted.negatives:
        lines.append(f"{NEGATIVE} {', '.join(_weighted(*entry) for entry in wanted.negatives.items())}")
    width, height = metadata["size"]
    knobs = ", ".join(f"{name}={value}" for name, value in metadata["knobs"].items())
    settings = {
        "Steps": metadata["steps"],
        "CFG scale": f"{max(1.0, metadata['guidance_scale']):g}",  # up to 1 is off for the pipeline, 1 is off there
        "Seed": metadata["seed"],
        "Size": f"{width}x{height}",
        "Model": metadata["model"],
        "Denoising strength": metadata.get("strength"),
        "Negative guidance": f"{metadata['method']}: {knobs}" if knobs else metadata["method"],
        "Version": f"vsf {metadata['vsf']}",
    }
    told = {name: str(value) for name, value in settings.items() if value is not None}
    lines.append(", ".join(f"{name}: {_quoted(value)}" for name, value in told.items()))
    return "\n".join(lines)


def _fields(settings: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a request that the settings hold."""
    fields: dict[str, Any] = {"steps": _number(settings, "Steps", int), "seed": _number(settings, "Seed", int)}
    if "CFG scale" in settings:
        fields["guidance_scale"] = _number(settings, "CFG scale", float)
    if "Size" in settings:
        size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", settings["Size"])
        if size is None:
            raise RequestError(f'its "{KEY}" has no size such as 512x768 after "Size:", but "{settings["Size"]}".')
        fields["size"] = (int(size[1]), int(size[2]))
    if "Denoising strength" in settings and not any(name.startswith("Hires") for name in settings):
        fields["strength"] = _number(settings, "Denoising strength", float)
    return fields


def _settings(line: str) -> dict[str, str]:
    pairs = (piece.partition(":") for piece in _PIECE.findall(line))
    return {name.strip(): _unquoted(value.strip()) for name, _, value in pairs}


def _number(settings: Mapping[str, str], name: str, kind: type) -> Any:
    try:
        return kind(settings[name])
    except KeyError:
        raise RequestError(f'its "{KEY}" has no "{name}:".') from None
    except ValueError:
        raise RequestError(f'its "{KEY}" has no number after "{name}:", but "{settings[name]}".') from None


def _weighted(text: str, weight: float) -> str:
    escaped = str(Prompt(text))
    return escaped if weight == 1 else f"({escaped}:{weight:g})"


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r'[,:"\n]', value) else value


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value
