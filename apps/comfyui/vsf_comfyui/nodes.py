"""The nodes, in ComfyUI's V3 schema; the knobs of the methods come from vsf's registry."""

from typing import Any, get_args

from vsf import guidance, tiny
from vsf.controls.schedule import Axis, Curve, Schedule
from vsf.errors import KnobError
from vsf.guidance import AUTO, METHODS, Knob, knobs

from . import host
from .guide import Plan, guide
from .host import io, ui
from .negative import Conditioning
from .report import Trace
from .selftest import self_test
from .tiny import Autoencoder, load_clip, load_model, sigmas
from .words import encode_negatives

CATEGORY = "vsf"
ALIASES = ["negative prompt", "value sign flip", "NAG", "NASA", "ONG", "NegPiP", "few steps", "cfg 1", "distilled"]
TraceType = io.Custom("VSF_TRACE")
"""What a guided MODEL did in its latest run."""
OFFERED = [name for name, method in METHODS.items() if name != "none" and method.model_calls == 1]
"""Methods that act in the attention; classifier-free guidance the host has itself."""
_KNOBS_OF_DIFFUSERS = ("layout",)
"""Knobs for something that only families of the other host have."""
_HIGHEST = 100.0


def method_options() -> list[Any]:
    """Return one option for each method, with the inputs of its own knobs."""
    options = []
    for name in OFFERED:
        inputs = []
        for knob in knobs(METHODS[name]):
            if knob.name in _KNOBS_OF_DIFFUSERS:
                continue
            inputs.append(knob_input(knob))
            if knob.takes_auto:
                inputs.append(
                    io.Boolean.Input(
                        f"{knob.name}_auto",
                        default=False,
                        tooltip=f"Let each step choose the {knob.name} by the attention on the negative so far.",
                    )
                )
        options.append(io.DynamicCombo.Option(name, inputs))
    return options


def knob_input(knob: Knob) -> Any:
    """Return the input of one knob, with its range, default and help."""
    about: dict[str, Any] = {"default": knob.default, "tooltip": knob.help}
    if isinstance(knob.default, bool):
        return io.Boolean.Input(knob.name, **about)
    if knob.choices:
        return io.Combo.Input(knob.name, options=list(knob.choices), **about)
    assert knob.low is not None
    assert knob.high is not None
    return io.Float.Input(knob.name, min=knob.low, max=min(knob.high, _HIGHEST), step=0.01, **about)


def chosen_method(chosen: dict[str, Any]) -> guidance.Guidance:
    """Return the method that the inputs of a node describe."""
    given = dict(chosen)
    name = given.pop("method")
    for knob in knobs(METHODS[name]):
        if given.pop(f"{knob.name}_auto", False):
            given[knob.name] = AUTO
    return guidance.method(name, **given)


class Guidance(io.ComfyNode):
    """Guides a MODEL with a negative."""

    @classmethod
    def define_schema(cls) -> Any:
        """Describe inputs and outputs."""
        fraction = {"min": 0.0, "max": 1.0, "step": 0.01}
        return host.schema(
            node_id="VSFGuidance",
            display_name="VSF Guidance",
            category=CATEGORY,
            description=(
                "Lets a negative prompt act inside the attention: at cfg 1 too, under any sampler, with no extra model "
                "call. Put several in a row for several negatives."
            ),
            search_aliases=ALIASES,
            inputs=[
                io.Model.Input("model"),
                io.Conditioning.Input("negative", tooltip="What the picture should not have."),
                io.DynamicCombo.Input("method", options=method_options(), tooltip="How the negative acts."),
                io.Float.Input(
                    "weight", default=1.0, min=0.0, max=10.0, step=0.05,
                    tooltip="How much attention this negative gets among several; 0 leaves it out.",
                ),
                io.Float.Input(
                    "start", default=0.0, **fraction, tooltip="Fraction of the run at which guidance starts."
                ),
                io.Float.Input("end", default=1.0, **fraction, tooltip="Fraction of the run at which it ends."),
                io.Combo.Input(
                    "curve", options=list(get_args(Curve)), default="constant",
                    tooltip="How its strength goes from start to end: constant, or down to nothing.",
                ),
                io.Combo.Input(
                    "over", options=list(get_args(Axis)), default="steps",
                    tooltip="What start and end are fractions of: the steps, or the noise that is gone (sigma).",
                ),
                io.String.Input(
                    "blocks", default="",
                    tooltip="Attention layers that are guided, from 0, such as 0-11,14; empty for all. "
                    "VSF Report lists them.",
                ),
                io.Boolean.Input(
                    "observe", default=False,
                    tooltip="Watch the attention for VSF Report and VSF Heat Map. It takes some time.",
                ),
                io.Mask.Input("mask", optional=True, tooltip="Where in the picture the negative acts."),
            ],
            outputs=[
                io.Model.Output(),
                TraceType.Output("trace", tooltip="For VSF Report and VSF Heat Map."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        model: Any,
        negative: Conditioning,
        method: dict[str, Any],
        weight: float,
        start: float,
        end: float,
        curve: Curve,
        over: Axis,
        blocks: str,
        observe: bool,
        mask: Any = None,
    ) -> Any:
        """Guide a clone of the model."""
        schedule = Schedule(start, end, curve, blocks.strip() or None, over)
        negatives = ((negative, weight),) if weight > 0 else ()
        return io.NodeOutput(*guide(model, Plan(chosen_method(method), negatives, schedule, mask, observe)))


class EncodeNegative(io.ComfyNode):
    """Encodes negatives without padding."""

    @classmethod
    def define_schema(cls) -> Any:
        """Describe inputs and outputs."""
        return host.schema(
            node_id="VSFEncodeNegative",
            display_name="VSF Encode Negative",
            category=CATEGORY,
            description=(
                "Encodes negatives for VSF Guidance and tells words from padding, which would act as a negative, too."
            ),
            search_aliases=[*ALIASES, "encode"],
            inputs=[
                io.Clip.Input("clip"),
                io.String.Input(
                    "text", multiline=True, default="",
                    tooltip="A negative on each line. A whole line in brackets has a weight: (wheels:1.2).",
                ),
                io.String.Input(
                    "within", default="",
                    tooltip="Context in which the negatives are read, such as: a red car with {}. Only their own "
                    "tokens are kept. Empty for none.",
                ),
            ],
            outputs=[io.Conditioning.Output()],
        )  # fmt: skip

    @classmethod
    def execute(cls, clip: Any, text: str, within: str) -> Any:
        """Encode every line."""
        if clip is None:
            raise KnobError("there is no CLIP: the checkpoint does not hold a text encoder, so load one beside it")
        return io.NodeOutput(encode_negatives(clip, text, within))


class Report(io.ComfyNode):
    """Says what the guidance did."""

    @classmethod
    def define_schema(cls) -> Any:
        """Describe inputs and outputs."""
        return host.schema(
            node_id="VSFReport",
            display_name="VSF Report",
            category=CATEGORY,
            description="Says which layers were guided in the latest run, how much attention the negatives got, and "
            "how much the output changed.",
            search_aliases=["negative prompt report", "did the negative prompt work"],
            is_output_node=True,
            inputs=[
                TraceType.Input("trace"),
                io.AnyType.Input("after", tooltip="What the run made, a latent or an image: the report waits for it."),
            ],
            outputs=[io.String.Output()],
        )

    @classmethod
    def execute(cls, trace: Trace, after: Any) -> Any:
        """Show the report."""
        del after
        text = trace.text()
        return io.NodeOutput(text, ui=ui.PreviewText(text))


class HeatMap(io.ComfyNode):
    """Shows where the image looked at a negative."""

    @classmethod
    def define_schema(cls) -> Any:
        """Describe inputs and outputs."""
        return host.schema(
            node_id="VSFHeatMap",
            display_name="VSF Heat Map",
            category=CATEGORY,
            description="Shows where the image looked at a negative in the latest run: mean over steps, layers and "
            "heads, brightest where it looked most.",
            search_aliases=["negative prompt heat map", "attention map"],
            inputs=[
                TraceType.Input("trace"),
                io.AnyType.Input("after", tooltip="What the run made, a latent or an image: the map waits for it."),
                io.Int.Input("negative", default=0, min=0, max=99, tooltip="Which negative, from 0."),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, trace: Trace, after: Any, negative: int) -> Any:
        """Make the picture, one for each frame of a video's latents."""
        del after
        return io.NodeOutput(trace.pictures(negative))


class SelfTest(io.ComfyNode):
    """Tests whether guidance is exact."""

    @classmethod
    def define_schema(cls) -> Any:
        """Describe inputs and outputs."""
        return host.schema(
            node_id="VSFSelfTest",
            display_name="VSF Self-Test",
            category=CATEGORY,
            description="Tests on your model and your install whether guidance is exact: switched off it leaves the "
            "model as it is, switched on it equals two ordinary rows in lockstep.",
            search_aliases=["check guidance", "is guidance exact"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model as loaded; guidance on it is left aside."),
                io.Conditioning.Input("positive"),
                io.Conditioning.Input("negative"),
                io.Latent.Input("latent", tooltip="Its size counts; small is quick."),
            ],
            outputs=[io.String.Output()],
        )

    @classmethod
    def execute(cls, model: Any, positive: Conditioning, negative: Conditioning, latent: dict[str, Any]) -> Any:
        """Run one step of a sampler on a probed model."""

        def run(probed: Any, prompt: Conditioning) -> None:
            host.sample_one_step(probed, prompt, latent["samples"])

        text = str(self_test(model, positive, negative, run))
        return io.NodeOutput(text, ui=ui.PreviewText(text))


class TinyModel(io.ComfyNode):
    """Loads the embedded model."""

    @classmethod
    def define_schema(cls) -> Any:
        """Describe inputs and outputs."""
        return host.schema(
            node_id="VSFTinyModel",
            display_name="VSF Tiny Model",
            category=CATEGORY,
            description="The small text-to-image model that ships with vsf: synthetic scenes in seconds on a CPU, "
            "without any download. Sample it with its own sigmas, at cfg 1.",
            search_aliases=["vsf demo model", "example model"],
            inputs=[
                io.Combo.Input("name", options=list(tiny.MODELS), default="tiny"),
                io.Int.Input("steps", default=8, min=1, max=100, tooltip="How many noise levels the sigmas have."),
            ],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output(), io.Sigmas.Output()],
        )

    @classmethod
    def execute(cls, name: str, steps: int) -> Any:
        """Load all parts."""
        return io.NodeOutput(load_model(name), load_clip(name), Autoencoder(name), sigmas(name, steps))


class Pack(host.ComfyExtension):
    """All nodes."""

    async def get_node_list(self) -> list[type[Any]]:
        """Return the nodes."""
        return [Guidance, EncodeNegative, Report, HeatMap, SelfTest, TinyModel]


async def comfy_entrypoint() -> Pack:
    """Return the pack to the host, which calls this."""
    return Pack()
