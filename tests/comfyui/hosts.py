"""The hosts to test on: the stub always, a real ComfyUI where COMFYUI_PATH points to one."""

import importlib
import os

STUB = "stub"
REAL = "host"
HAS_HOST = "COMFYUI_PATH" in os.environ
NO_HOST = "no COMFYUI_PATH"
"""Why tests of a real host are skipped."""


def host_module(name: str):
    """Return the module that has the host's models and samplers."""
    return importlib.import_module(f"comfyui.{'stub' if name == STUB else 'real'}")


def model_names(name: str) -> list[str]:
    """Return the names of a host's models; none if there is no such host."""
    return [*host_module(name).MODELS] if name == STUB or HAS_HOST else []


ALL_MODELS = [(host, name) for host in (STUB, REAL) for name in model_names(host)]
