"""A guider of diffusers that applies the methods, for modular pipelines and others that hold a guider.

Such a pipeline encodes the negative prompt itself and passes it to its guider, which prepares the denoiser's calls.
`vsf.guide` works on these pipelines too, where their family encodes from a pipeline's parts or the negative is encoded
already.
"""

from collections.abc import Mapping
from threading import get_ident
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.guiders.guider_utils import BaseGuidance, GuiderOutput
from torch import Tensor, nn

from vsf.controls.places import Places
from vsf.controls.schedule import Schedule
from vsf.errors import KnobError, NotGuidedError, PromptError, UnsupportedPipelineError
from vsf.families.base.family import Family
from vsf.guidance import method as make_method
from vsf.patching.hosts import CallArguments
from vsf.patching.swaps import Original, swap_class
from vsf.runtime.report import Report
from vsf.runtime.session import Session
from vsf.text.embeddings import Negative


class VSFGuider(BaseGuidance):
    """Guides the one denoiser call of each step away from the pipeline's `negative_prompt`.

    To the pipeline, an omitted negative prompt is an empty one, and its marks are guided away from: use `disable()`.
    Where a pipeline does not tell the words of a negative prompt from padding, set `negative` to what `vsf.encode`
    returns. A pipeline with several guiders, such as Wan 2.2, needs one for each.

    Args:
        method: a name from `vsf list methods`.
        knobs: values of its knobs, such as {"scale": 1.5}.
        start: fraction of the steps at which guidance begins.
        stop: fraction of the steps at which it ends.
        enabled: False for no guidance at all.
        guidance_scale: another name of the method's scale, by which other programs set it; None leaves it to `knobs`.
        guidance_rescale: taken because other programs pass it to every guider, and 0, because there are no two
            predictions whose mixture could be rescaled.

    Raises:
        UnknownNameError: no method has this name.
        KnobError: a knob has a value that is not allowed, the scale is given twice, or the method calls the denoiser
            twice.
        VsfError: as `vsf.guide` raises, when the pipeline runs.
    """

    negative: Negative | None = None
    """The result of `vsf.encode` to guide away from, instead of what the pipeline encodes; None for the latter."""

    _input_predictions = ["pred_cond"]  # noqa: RUF012 - the host wants a list

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        method: str = "vsf",
        knobs: Mapping[str, Any] | None = None,
        start: float = 0.0,
        stop: float = 1.0,
        enabled: bool = True,
        guidance_scale: float | None = None,
        guidance_rescale: float = 0.0,
    ) -> None:
        super().__init__(start, stop, enabled)
        if guidance_rescale:
            raise KnobError(f"guidance_rescale has nothing to rescale here, give 0: got {guidance_rescale!r}")
        self._method = make_method(method, **_with_scale(knobs or {}, guidance_scale))
        if self._method.model_calls != 1:
            raise KnobError(f'"{method}" calls the denoiser twice in each step; use diffusers.ClassifierFreeGuidance')
        self._negatives: dict[str, Any] = {}
        self._session: Session | None = None

    @property
    def report(self) -> Report:
        """The effect of the guidance on the latest denoiser. Raises NotGuidedError before the first run."""
        if self._session is None:
            raise NotGuidedError("the guider has not guided any denoiser yet: run the pipeline first")
        return self._session.report

    @property
    def is_conditional(self) -> bool:
        """True: every call is conditional, none is unconditional."""
        return True

    @property
    def spatio_temporal_guidance_blocks(self) -> Any:
        """An attribute that only modular LTX-2 reads. Raises UnsupportedPipelineError."""
        raise UnsupportedPipelineError(
            "the guiders of modular LTX-2, one for the picture and one for the sound, share the calls of the denoiser, "
            "so that neither can guide them; use LTX2Pipeline with vsf.guide"
        )

    @property
    def num_conditions(self) -> int:
        """The number of prompts that pipelines encode: two, the positive and the negative."""
        return 2

    def prepare_inputs(self, data: dict[str, Any]) -> list[Any]:
        """Prepare the one call of a step, and keep the negatives' side of the data.

        Args:
            data: arguments by name; those that depend on the prompt are (positive, negative).
        """
        self._negatives = {name: pair[1] for name, pair in data.items() if isinstance(pair, tuple)}
        return [self._prepare_batch(data, 0, "pred_cond")]

    def prepare_inputs_from_block_state(self, data: Any, input_fields: dict[str, Any]) -> list[Any]:
        """Prepare the one call of a step, and keep the negatives' side of the data.

        Args:
            data: the state of a modular pipeline's block.
            input_fields: fields of it by argument name; where an argument depends on the prompt, the fields of
                (positive, negative).
        """
        fields = {name: pair[1] for name, pair in input_fields.items() if isinstance(pair, tuple)}
        self._negatives = {name: getattr(data, field, None) for name, field in fields.items()}
        return [self._prepare_batch_from_block_state(input_fields, data, 0, "pred_cond")]

    def prepare_models(self, denoiser: nn.Module) -> None:
        """Guide the denoiser's next call, if this is a step for it."""
        super().prepare_models(denoiser)
        if not self._is_on():
            return
        if self._session is None or self._session.target is not denoiser:
            self._session = Session(denoiser, self._method, Schedule(), Places())
        negative = self.negative
        if negative is None:
            negative = _unpadded(self._session.family, self._negatives)
        self._session.use(negative)
        # Another thread may call the same denoiser meanwhile, with its own guider or none.
        self._session.thread = get_ident()
        self._session.install()
        # The host does not call `cleanup_models` after an error, so the denoiser's call itself does.
        self._session.add_undo(swap_class(denoiser, {"__call__": self._called}))

    def cleanup_models(self, denoiser: nn.Module) -> None:
        """Stop guiding after the call."""
        del denoiser
        if self._session is not None:
            self._session.uninstall()

    def _called(self, original: Original, denoiser: nn.Module, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(denoiser, *args, **kwargs)
        finally:
            self.cleanup_models(denoiser)

    def __call__(self, data: list[Any]) -> Any:
        """Return the one prediction unchanged."""
        return self.forward(data[0].noise_pred)

    def forward(self, pred_cond: Tensor) -> Any:
        """Return the one prediction unchanged."""
        return GuiderOutput(pred=pred_cond, pred_cond=pred_cond, pred_uncond=None)

    def _is_on(self) -> bool:
        steps = self._num_inference_steps
        is_within = steps is None or int(self._start * steps) <= self._step < int(self._stop * steps)
        return bool(self._enabled) and is_within


def _with_scale(knobs: Mapping[str, Any], guidance_scale: float | None) -> Mapping[str, Any]:
    """Return the knobs with the scale under its other name. Raises KnobError where it has both names."""
    if guidance_scale is None:
        return knobs
    if "scale" in knobs:
        raise KnobError("guidance_scale is another name of the knob scale: give one of them")
    return {**knobs, "scale": guidance_scale}


def _unpadded(family: Family, negatives: CallArguments) -> Negative:
    """Remove the padding from negatives that a pipeline has encoded: what its mask hides, or what is all zeros.

    Args:
        family: the model architecture.
        negatives: the negatives' side of the denoiser's arguments.

    Raises:
        PromptError: there is no negative, or padding cannot be told from words.
    """
    if family.text not in negatives:
        raise _cannot_tell_padding(family)
    texts = negatives[family.text]
    if texts is None:
        raise PromptError(f"the pipeline has no {family.text} for a negative prompt: pass negative_prompt=")
    if isinstance(texts, list):
        return Negative(tuple(texts))
    mask = negatives.get(family.text_mask)
    lengths = negatives.get(family.text_lengths)
    if lengths is not None:
        mask = torch.arange(texts.shape[1], device=lengths.device) < lengths[:, None]
    elif mask is None and family.text_mask in negatives:
        mask = torch.ones(texts.shape[:2], dtype=torch.bool)  # no mask was made, because nothing is padded
    if mask is None:
        mask = (texts != 0).any(-1)
        if bool(mask.all()):
            raise _cannot_tell_padding(family)
    if family.encoder_sees_padding and not bool(mask.all()):
        raise _cannot_tell_padding(family)
    return Negative.from_padded(family.text_of(negatives), mask)


def _cannot_tell_padding(family: Family) -> PromptError:
    encoded = "vsf.encode(ordinary, texts), with an ordinary pipeline"
    if family.encodes_from_parts:
        encoded = "vsf.encode(pipe, texts)"
    return PromptError(
        f"this {family.name} pipeline does not tell the words of its negative prompt from padding, or reads them with "
        f"it; give them to the guider: guider.negative = {encoded}"
    )
