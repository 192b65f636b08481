"""Read a finished picture to make another like it: one of this package, of AUTOMATIC1111's web UI or of ComfyUI."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsf.errors import RequestError
from vsf.generation.metadata import Metadata, comfyui, provenance, webui
from vsf.generation.metadata.recipe import Recipe
from vsf.generation.request import Arguments

if TYPE_CHECKING:
    from vsf.generation.models import Model


@dataclass(frozen=True, slots=True)
class OwnPicture:
    """A picture or clip of this package, which can be repeated to the last pixel; `metadata` as from `describe`."""

    metadata: Metadata

    def repeat(self, given: Arguments) -> dict[str, Any]:
        """Return the arguments of the request that repeats it; see `provenance.repeat`."""
        return provenance.repeat(self.metadata, given)

    def reproduction_warnings(self, given: Arguments) -> list[str]:
        """Return the reasons why repeating it may not give the same pixels."""
        return provenance.reproduction_warnings(self.metadata, given)

    def check_weights(self, given: Arguments, model: Model) -> None:
        """Raise RequestError unless the loaded weights are those that made it."""
        provenance.check_weights(self.metadata, given, model)


def read(file: Path) -> OwnPicture | Recipe:
    """Read a PNG picture, or an MP4 clip of this package.

    Raises:
        RequestError: the file does not exist, has no metadata in a known format, or has damaged ones.
    """
    if file.suffix.lower() == ".mp4":
        return OwnPicture(provenance.read(file))
    chunks = provenance.text_chunks(file)
    if provenance.KEY in chunks:
        return OwnPicture(provenance.parse(file, chunks[provenance.KEY]))
    try:
        if webui.KEY in chunks:
            return webui.read(chunks[webui.KEY])
        if comfyui.KEY in chunks or comfyui.EDITOR_KEY in chunks:
            return comfyui.read(chunks)
    except RequestError as error:
        raise RequestError(f'cannot read how "{file}" was made: {error}') from error
    foreign_formats = f'"{webui.KEY}" of {webui.TOOL} or "{comfyui.KEY}" of {comfyui.TOOL}'
    raise RequestError(
        f'"{file}" was not made by vsf: it carries no "{provenance.KEY}" metadata to repeat, nor {foreign_formats}.'
    )
