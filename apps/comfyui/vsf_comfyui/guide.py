"""Negative guidance for a ComfyUI MODEL: any sampler, any guider, no extra model call.

The model is not changed. A wrapper around `BaseModel.apply_model` appends the negatives to the text, and an attention
override, in force for the duration of that call, hands query, key and value of the layers that see the text to vsf's
core.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vsf.controls.grid import Grid
from vsf.controls.region import Region
from vsf.controls.schedule import Axis, Schedule
from vsf.errors import KnobError, NotGuidedError, UnsupportedPipelineError
from vsf.guidance import Guidance, Observation
from vsf.hosting import GuidedCall
from vsf.runtime.auto_scaler import AutoScaler
from vsf.text.embeddings import Negative, NegativeRows

from .families import Family, Texts, family_of, token_grid
from .interfaces import BaseModel, Conditioning, GuiderExecutor, ModelExecutor, ModelPatcher, Options
from .layers import INACTIVE, Layers
from .negative import Encoded, check, encode, joined
from .report import Trace

KEY = "vsf"
"""Key of everything that this pack adds to a MODEL or to the host's options."""
OUTER_SAMPLE = "outer_sample"
PREDICT_NOISE = "predict_noise"
APPLY_MODEL = "apply_model"
COMPILE_KEY = "torch.compile"
"""Key under which TorchCompileModel adds its wrapper."""


@dataclass(frozen=True, eq=False)
class Plan:
    """The settings of guidance.

    Attributes:
        method: How negatives act.
        negatives: Conditionings, each with a weight.
        schedule: When negatives act, and in which layers.
        mask: Where in the picture they act, (1, height, width); None for all of it.
        observe: Whether to record for the trace what attention does, which takes time.

    Raises:
        KnobError: A setting is one that ComfyUI's models cannot follow.
    """

    method: Guidance
    negatives: tuple[tuple[Conditioning, float], ...]
    schedule: Schedule = field(default_factory=Schedule)
    mask: Tensor | None = None
    observe: bool = False

    def __post_init__(self) -> None:
        if self.method.model_calls != 1:
            raise KnobError(
                f'method "{self.method.name}" calls the model twice, which the host does by itself: use cfg'
            )
        if self.method.token_layout != "paper":
            raise KnobError('layout="reference" is known for diffusers\' SD3 only; use layout="paper"')
        if self.mask is not None and len(self.mask) != 1:
            raise KnobError(f"the mask of a negative is one picture, got {len(self.mask)} of them")
        for conditioning, _ in self.negatives:
            check(conditioning)

    def followed_by(self, other: "Plan") -> "Plan":
        """Return this plan with the negatives of another one behind its own.

        Raises:
            KnobError: The plans differ in more than their negatives.
        """
        for setting in fields(self):
            if setting.name in ("negatives", "observe"):
                continue
            before = getattr(self, setting.name)
            after = getattr(other, setting.name)
            # Masks are compared by identity: == on tensors compares element by element.
            same = before is after or (not isinstance(before, Tensor) and before == after)
            if not same:
                raise KnobError(
                    f"VSF Guidance nodes in a row add negatives to one another and share all other settings; "
                    f"their {setting.name} differs: {before} and {after}"
                )
        negatives = (*self.negatives, *other.negatives)
        return replace(self, negatives=negatives, observe=self.observe or other.observe)


def guide(model: ModelPatcher, plan: Plan) -> tuple[ModelPatcher, Trace]:
    """Return a clone of a MODEL that is guided under every sampler and guider, and the trace of its runs.

    A model that is guided already gets the negatives of this plan in addition to its own.

    Raises:
        KnobError: The model is guided with other settings.
        UnsupportedPipelineError: The model's class is unknown to guidance.
    """
    family_of(_uncompiled(model.model.diffusion_model))
    clone = model.clone()
    for wrapper in clone.get_wrappers(APPLY_MODEL, KEY):
        plan = wrapper.__self__.plan.followed_by(plan)
    guided = Guided(plan)
    wrappers: dict[str, Callable[..., object]] = {
        OUTER_SAMPLE: guided.run,
        PREDICT_NOISE: guided.predict_noise,
        APPLY_MODEL: guided.apply_model,
    }
    for kind, wrapper in wrappers.items():
        clone.remove_wrappers_with_key(kind, KEY)
        clone.add_wrapper_with_key(kind, KEY, wrapper)
    return clone, guided.trace


@dataclass(frozen=True, eq=False)
class ModelCall:
    """One call of the host's `apply_model`, which may be changed before it is made.

    Attributes:
        executor: The host's executor of the wrappers that remain and of the model.
        x: Latents (batch, channels, ..., height, width).
        t: Noise level of each row.
        c_concat: Latents that are concatenated to x, if any.
        text: Text tokens (batch, tokens, channels); None for a model without text.
        control: The outputs of ControlNets, if any.
        options: The host's `transformer_options`.
        conds: All other conditions of the model.
    """

    executor: ModelExecutor
    x: Tensor
    t: Tensor
    c_concat: Tensor | None
    text: Tensor | None
    control: object
    options: Options
    conds: Options

    @property
    def denoiser(self) -> nn.Module:
        """The diffusion model, unwrapped if it is compiled."""
        return _uncompiled(self.executor.class_obj.diffusion_model)

    def make(self) -> Tensor:
        """Pass the call on to the remaining wrappers and to the model."""
        return self.executor(self.x, self.t, self.c_concat, self.text, self.control, self.options, **self.conds)

    def with_negatives(self, rows: NegativeRows, options: Options) -> "ModelCall":
        """Return the call with negatives behind its text, and the text's mask and token count extended to match."""
        assert self.text is not None
        positive = self.text.shape[1]
        added = rows.embeddings.shape[1]
        conds = dict(self.conds)
        mask = conds.get("attention_mask")
        if mask is not None and mask.dim() == 2 and mask.shape[1] == positive:
            conds["attention_mask"] = torch.cat([mask, mask.new_ones(len(mask), added)], 1)
        if conds.get("num_tokens") is not None:
            conds["num_tokens"] = conds["num_tokens"] + added
        return replace(self, text=torch.cat([self.text, rows.embeddings], 1), options=options, conds=conds)


@dataclass
class Run:
    """State that is kept between the model calls of one run.

    Attributes:
        size: (height, width) of the latents; None outside a sampler.
        encoded: The negatives as the model takes them, by the shape, device and dtype of the latents.
        compiled: Whether attention runs in compiled code; None before the first call.
        guided_calls: Model calls that should be guided.
        attention_calls: Attention calls seen in them.
    """

    size: tuple[int, int] | None = None
    encoded: dict[Any, list[Encoded]] = field(default_factory=dict)
    compiled: bool | None = None
    guided_calls: int = 0
    attention_calls: int = 0


class Guided:
    """A plan applied to one MODEL: the wrappers around a run, a step and a model call."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.trace = Trace(plan.method.name, observes=plan.observe)
        self.region = None if plan.mask is None else Region(plan.mask[0])
        self.pace = AutoScaler(plan.method) if plan.method.is_auto else None
        self._watches = plan.observe or self.pace is not None
        self._run = Run()

    def run(self, executor: Callable[..., object], noise: object, *args: Any, **kwargs: Any) -> object:
        """Wrap a whole run of a sampler (the host's `outer_sample`)."""
        self._run = Run((noise.shape[-2], noise.shape[-1]) if isinstance(noise, Tensor) else None)
        self.trace.begin_run()
        if self.pace is not None:
            self.pace.begin()
        try:
            out = executor(noise, *args, **kwargs)
            if self._run.guided_calls and not self._run.attention_calls:
                raise NotGuidedError(f"no attention call of {self.trace.report.family} was seen, so nothing was guided")
            return out
        finally:
            self.trace.finish_run()
            self._run = Run()

    def predict_noise(
        self,
        executor: GuiderExecutor,
        x: Tensor,
        t: Tensor,
        model_options: Mapping[str, Any] = {},
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Mark for the model calls of a step the guider's own negative conditionings, which stay unguided."""
        unguided: set[Any] = set()
        for name, conds in executor.class_obj.conds.items():
            if "negative" in name:
                unguided.update(cond.get("uuid") for cond in conds or ())
        options = {**model_options.get("transformer_options", {}), KEY: frozenset(unguided)}
        return executor(x, t, {**model_options, "transformer_options": options}, *args, **kwargs)

    def apply_model(
        self,
        executor: ModelExecutor,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: object = None,
        transformer_options: Mapping[str, Any] = {},
        **conds: Any,
    ) -> Tensor:
        """Wrap one call of the host's `apply_model`."""
        options = {name: value for name, value in transformer_options.items() if name != KEY}
        call = ModelCall(executor, x, t, c_concat, c_crossattn, control, options, conds)
        owners = row_owners(len(x), transformer_options)
        if c_crossattn is None or owners.count(None) == len(owners):
            return call.make()
        strength = self.plan.schedule.strength(fraction_done(options, self.plan.schedule.over))
        if strength == 0:
            self.trace.skip_step()
            return call.make()
        family = family_of(call.denoiser)
        if reason := family.refuses(conds):
            raise UnsupportedPipelineError(f"{type(call.denoiser).__name__} cannot be guided here: {reason}")
        encoded = self._encoded(executor.class_obj, x)
        return self.guided_call(call, family, encoded, owners, strength) if encoded else call.make()

    def guided_call(
        self, call: ModelCall, family: Family, encoded: Sequence[Encoded], owners: list[int | None], strength: float
    ) -> Tensor:
        """Make a model call with the negatives in its text and the method in its attention."""
        assert call.text is not None
        denoiser = call.denoiser
        compiled = self._is_compiled(call)
        grid = token_grid(denoiser, call.x)
        self._refuse_part_of_picture(call.x)
        negative = joined(encoded, strip_marks=self.plan.method.strips_special_tokens)
        self._begin_call(denoiser, negative, grid)
        rows = negative.rows(owners, like=call.text)
        hidden = family.hidden_tokens(grid, call.text.shape[1] + rows.embeddings.shape[1])
        rows = replace(rows, embeddings=F.pad(rows.embeddings, (0, 0, 0, hidden)))
        lengths = tuple(span.length for span in rows.spans)
        starts = tuple(negative.start for negative in encoded)
        texts = Texts(call.text.shape[1], lengths, starts)
        # Compiled code is made anew for every number, but once for all values of a tensor; so a curve is tensors in
        # every step, in those at full strength too.
        varies = self.plan.schedule.curve != "constant"
        layers = Layers(self.plan.schedule, call.options)
        with family.corrected(denoiser, texts) as inside:
            layers.role = family.role(denoiser)
            layers.positive = inside.positive
            layers.call = GuidedCall(
                method=self.plan.method if self.pace is None else self.pace.method(len(call.x), call.x.device),
                text=[family.spans(denoiser, inside, grid)],
                # A model that pads texts by itself lets the padding take part like any token of the text.
                valid=rows.valid(rows.embeddings.shape[1]) if inside.negatives == lengths else None,
                weights=rows.weights,
                unguided=tuple(row for row, owner in enumerate(owners) if owner is None),
                strength=torch.tensor(strength, device=call.x.device) if compiled and varies else strength,
                region=self.region,
                grid=grid,
                inactive=[INACTIVE],
                record=partial(self._record, owners) if self._watches and not compiled else None,
            )
            out = call.with_negatives(rows, layers.options).make()
        self._finish_call(denoiser, layers, compiled=compiled)
        return out

    def _begin_call(self, denoiser: nn.Module, negative: Negative, grid: Grid) -> None:
        """Tell the trace that a call begins, and with the first one of a run the negatives."""
        if not self._run.guided_calls:
            self.trace.begin(type(denoiser).__name__, negative)
        self.trace.begin_step(grid)

    def _finish_call(self, denoiser: nn.Module, layers: Layers, *, compiled: bool) -> None:
        """Count the call; raise NotGuidedError if attention ran and none of it was recognised."""
        self._run.guided_calls += 1
        self._run.attention_calls += layers.seen
        if layers.seen and not layers.found:
            raise NotGuidedError(
                f"none of the {layers.seen} attention calls of {type(denoiser).__name__} sees its text as expected: "
                "without guidance the negative would act as a positive. Run VSF Self-Test, and report the model"
            )
        if not layers.seen:  # a step cache stood in for the model
            return
        layers.check_choice()
        self.trace.finish_step(compiled=compiled, layers=layers.active)
        if self.pace is not None:
            self.trace.report.scales.append(self.pace.finish_step())

    def _encoded(self, model: BaseModel, x: Tensor) -> list[Encoded]:
        """Return the negatives for latents like these, encoded once per run."""
        key = (tuple(x.shape[1:]), x.device, x.dtype)
        if key not in self._run.encoded:
            encoded: list[Encoded] = []
            for conditioning, weight in self.plan.negatives:
                for negative in encode(model, conditioning, x):
                    encoded.append(replace(negative, weight=negative.weight * weight))
            self._run.encoded[key] = encoded
        return self._run.encoded[key]

    def _is_compiled(self, call: ModelCall) -> bool:
        """Return whether attention runs in compiled code, where it cannot be observed."""
        if self._run.compiled is None:
            whole = COMPILE_KEY in call.options.get("wrappers", {}).get(APPLY_MODEL, {})
            self._run.compiled = whole or any(
                hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None
                for part in call.executor.class_obj.diffusion_model.modules()
            )
        return self._run.compiled

    def _refuse_part_of_picture(self, x: Tensor) -> None:
        """Raise KnobError if a call sees only part of the picture, because a mask would be fitted to that part."""
        size = self._run.size
        if self.region is not None and size is not None and tuple(x.shape[-2:]) != size:
            raise KnobError(
                "a mask of VSF Guidance covers the whole picture, but the model is called for a part of it, "
                f"{tuple(x.shape[-2:])} of {size} latent pixels: leave out the mask, or areas and tiles"
            )

    def _record(self, owners: list[int | None], layer: str, observation: Observation) -> None:
        """Pass an observation of a layer to the trace and to the auto scaler."""
        if self.plan.observe:
            self.trace.record(layer, owners, observation)
        if self.pace is not None:
            self.pace.see(observation)


def fraction_done(options: Options, over: Axis) -> float:
    """Return the fraction of a run's steps, or of its noise, that is done at a model call; 0 if it is unknown.

    A step lasts until the noise falls to the level at which the next one starts, so that samplers which call the model
    in between stay within the step.

    Args:
        options: The host's `transformer_options`.
        over: Whether to count steps or noise.
    """
    sigmas = options.get("sample_sigmas")
    current = options.get("sigmas")
    if sigmas is None or current is None:
        return 0.0
    sigma = float(current.max())
    if over == "sigma":
        return min(max(1 - sigma / float(sigmas[0]), 0.0), 1.0)
    steps_begun = int((sigmas >= sigma * (1 - 1e-6)).sum())  # with room for rounding
    return max(steps_begun - 1, 0) / max(len(sigmas) - 1, 1)


def row_owners(rows: int, options: Options) -> list[int | None]:
    """Return for each batch row whether the negatives act on it: 0 if so, None for the guider's own negative prompts.

    The host names the conditioning of every chunk of a batch; their order is not fixed.
    """
    unguided = options.get(KEY, ())
    chunks = [None if uuid in unguided else 0 for uuid in options.get("uuids", [None])]
    if rows % len(chunks):
        raise KnobError(f"{rows} rows cannot belong to {len(chunks)} conditionings in equal numbers")
    owners: list[int | None] = []
    for chunk in chunks:
        owners += [chunk] * (rows // len(chunks))
    return owners


def _uncompiled(denoiser: nn.Module) -> nn.Module:
    """Return the module that a compiled module wraps."""
    return getattr(denoiser, "_orig_mod", denoiser)
