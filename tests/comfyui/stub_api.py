"""What the nodes import of ComfyUI, in the shape in which they use it: schema, inputs, outputs. Nothing is copied."""

import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace


class Part:
    """An input or output: its name and whatever else it is given."""

    def __init__(self, id=None, **settings):
        self.id = id
        self.__dict__.update(settings)


def custom(name: str) -> type:
    """A type of input and output."""
    own = type(name, (), {})
    own.Input, own.Output = (type(f"{name}{kind}", (Part,), {"io_type": name}) for kind in ("Input", "Output"))
    return own


class DynamicCombo(custom("DYNAMICCOMBO")):
    @dataclass
    class Option:
        key: str
        inputs: list


@dataclass
class Schema:
    """A node's description, as of a release that does not know search aliases yet."""

    node_id: str
    display_name: str = ""
    category: str = ""
    description: str = ""
    is_output_node: bool = False
    inputs: list = field(default_factory=list)
    outputs: list = field(default_factory=list)


class NodeOutput:
    def __init__(self, *args, ui=None):
        self.args, self.ui = args, ui


_TYPES = [
    "Model",
    "Conditioning",
    "Clip",
    "Vae",
    "Sigmas",
    "Latent",
    "Image",
    "Mask",
    "String",
    "Float",
    "Int",
    "Boolean",
    "Combo",
    "AnyType",
]
io = SimpleNamespace(
    **{name: custom(name) for name in _TYPES},
    Custom=custom,
    ComfyNode=type("ComfyNode", (), {}),
    DynamicCombo=DynamicCombo,
    NodeOutput=NodeOutput,
    Schema=Schema,
)


def install() -> None:
    """Let the pack import this where it would import ComfyUI."""
    modules = {
        "comfy": {},
        "comfy.latent_formats": {"SD3": object},
        "comfy.sample": {},
        "comfy.sd": {"CLIP": object, "load_diffusion_model": None},
        "comfy.sd1_clip": {"SDClipModel": object, "SDTokenizer": object},
        "comfy.utils": {"load_torch_file": None},
        "comfy_api": {},
        "comfy_api.latest": {
            "ComfyExtension": type("ComfyExtension", (), {}),
            "io": io,
            "ui": SimpleNamespace(PreviewText=lambda text: {"text": text}),
        },
    }
    for name, members in modules.items():
        module = ModuleType(name)
        module.__dict__.update(members)
        sys.modules[name] = module
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], own, module)
