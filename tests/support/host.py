"""diffusers for the tests, of whatever release: `host.Name` is `diffusers.Name`.

A class that came after the oldest release allowed is asked for through here. Where the installed release is older than
the class, the test that asks for it is skipped; a class that should be there and is not makes it fail.
"""

from typing import Any

import diffusers
import pytest
from diffusers.pipelines.consisid.pipeline_consisid import ConsisIDPipeline
from packaging.version import Version

from vsf.families import FAMILIES

CAME = {
    **{name: release for family in FAMILIES.values() for name, release in family.pipelines_since.items()},
    "QwenImage21Transformer2DModel": "0.41",
    "AutoencoderKLQwenImage21": "0.41",
    "BriaFibo2Transformer2DModel": "0.42",
    "Flux3Transformer2DModel": "0.42",
    "Kandinsky6Transformer3DModel": "0.42",
    "Kandinsky6SRTransformer3DModel": "0.42",
}
"""The release that brought a class."""


def __getattr__(name: str) -> Any:
    if name in CAME and Version(diffusers.__version__) < Version(CAME[name]):
        pytest.skip(f"diffusers {diffusers.__version__} has no {name}, which came with {CAME[name]}")
    if name == "ConsisIDPipeline":  # exported only where OpenCV is installed, with which it draws key points of a face
        return ConsisIDPipeline
    return getattr(diffusers, name)
