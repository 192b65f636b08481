"""Metadata in the format of AUTOMATIC1111's web UI, which many tools write into the text of a PNG picture.

First the prompt, then lines that begin with "Negative prompt:", then one line "Steps: 20, Seed: 1, Size: 64x64, ...".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from vsf.errors import RequestError
from vsf.generation.metadata import Metadata
from vsf.generation.metadata.recipe import Recipe
from vsf.text.prompt import Prompt

KEY = "parameters"  # of the text chunk
TOOL = "AUTOMATIC1111"
NEGATIVE = "Negative prompt:"
# Text between commas that are not in quotes.
_SETTING = re.compile(r'(?:"(?:\\.|[^"\\])*"|[^",]|")+')
_EXTRA_NETWORK = re.compile(r"<(?:lora|lyco|hypernet):([^:>]+)[^>]*>")

Number = TypeVar("Number", int, float)


def read(text: str) -> Recipe:
    """Parse the text of the chunk.

    Raises:
        RequestError: there is no line with steps and seed, or a value in it is invalid.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    # The last one: a prompt may have such a line, too.
    settings_at = _last_line_with(lines, "Steps:")
    if settings_at is None:
        raise RequestError(f'its "{KEY}" has no line that begins with "Steps:".')
    settings = _parse_settings(lines[settings_at])
    negative_at = _first_line_with(lines[:settings_at], NEGATIVE)
    if negative_at is None:
        negative_at = settings_at
    prompt = "\n".join(lines[:negative_at])
    negative = "\n".join(lines[negative_at:settings_at]).removeprefix(NEGATIVE)
    left_out = [f"the sampler {settings['Sampler']}"] if "Sampler" in settings else []
    left_out += [f"the LoRA {name}" for name in _EXTRA_NETWORK.findall(prompt + negative)]
    return Recipe(
        tool=TOOL,
        fields=_request_fields(settings),
        prompt=_EXTRA_NETWORK.sub("", prompt).strip(),
        negative=_EXTRA_NETWORK.sub("", negative).strip(),
        model=settings.get("Model", ""),
        left_out=tuple(left_out),
    )


def write(metadata: Metadata, prompt: Prompt | None = None) -> str:
    """Format the text of the chunk.

    Args:
        metadata: of the picture, as from `provenance.describe`.
        prompt: the prompt with all negatives of these metadata; parsed from them if not given.
    """
    if prompt is None:
        negative = metadata["negative"]
        prompt = Prompt.parse(metadata["prompt"], {negative: 1.0} if isinstance(negative, str) else negative)
    lines = [str(Prompt(prompt.positive, {}, prompt.emphasis))]
    negatives = [_weighted(text, weight) for text, weight in prompt.negatives.items()]
    if negatives:
        lines.append(f"{NEGATIVE} {', '.join(negatives)}")
    width, height = metadata["size"]
    knobs = ", ".join(f"{name}={value}" for name, value in metadata["knobs"].items())
    settings = {
        "Steps": metadata["steps"],
        # The web UI's value for off is 1, ours any up to 1.
        "CFG scale": f"{max(1.0, metadata['guidance_scale']):g}",
        "Seed": metadata["seed"],
        "Size": f"{width}x{height}",
        "Model": metadata["model"],
        "Denoising strength": metadata.get("strength"),
        "Negative guidance": f"{metadata['method']}: {knobs}" if knobs else metadata["method"],
        "Version": f"vsf {metadata['vsf']}",
    }
    entries = []
    for name, value in settings.items():
        if value is not None:
            entries.append(f"{name}: {_quoted(str(value))}")
    lines.append(", ".join(entries))
    return "\n".join(lines)


def _first_line_with(lines: list[str], start: str) -> int | None:
    return next((index for index, line in enumerate(lines) if line.startswith(start)), None)


def _last_line_with(lines: list[str], start: str) -> int | None:
    return next((index for index in reversed(range(len(lines))) if lines[index].startswith(start)), None)


def _request_fields(settings: Mapping[str, str]) -> dict[str, Any]:
    """Turn settings into arguments of a request."""
    fields: dict[str, Any] = {"steps": _number(settings, "Steps", int), "seed": _number(settings, "Seed", int)}
    if "CFG scale" in settings:
        fields["guidance_scale"] = _number(settings, "CFG scale", float)
    if "Size" in settings:
        size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", settings["Size"])
        if size is None:
            raise RequestError(f'its "{KEY}" has no size such as 512x768 after "Size:", but "{settings["Size"]}".')
        fields["size"] = (int(size[1]), int(size[2]))
    # With "Hires ..." settings the strength is that of the upscaled second pass, not of a picture to start from.
    has_second_pass = any(name.startswith("Hires") for name in settings)
    if "Denoising strength" in settings and not has_second_pass:
        fields["strength"] = _number(settings, "Denoising strength", float)
    return fields


def _parse_settings(line: str) -> dict[str, str]:
    settings = {}
    for setting in _SETTING.findall(line):
        name, _, value = setting.partition(":")
        settings[name.strip()] = _unquoted(value.strip())
    return settings


def _number(settings: Mapping[str, str], name: str, kind: type[Number]) -> Number:
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
