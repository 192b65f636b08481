"""The hosts to test on: the stub always, a real ComfyUI where COMFYUI_PATH points to one."""

import importlib
import os

STUB = "stub"
REAL = "host"
HAS_HOST = "COMFYUI_PATH" in os.environ
NO_HOST = "no COMFYUI_PATH"
"""Why tests of a real host are skipped."""


def host_module(name: str):
    """The module that offers models and samplers."""
    return importlib.import_module(f"comfyui.{'stub' if name == STUB else 'real'}")


def model_names(name: str) -> list[str]:
    """The models of a host; of one that is not there, none."""
    return [*host_module(name).MODELS] if name == STUB or HAS_HOST else []


ALL_MODELS = [(host, name) for host in (STUB, REAL) for name in model_names(host)]
