"""Negative prompts that work in few-step models, for ComfyUI."""

from .vsf_comfyui.nodes import comfy_entrypoint

WEB_DIRECTORY = "./web"
"""Where the host finds the help pages, docs/<node id>.md."""

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
