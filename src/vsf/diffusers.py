"""The methods as a guider of diffusers, for modular pipelines and for others that hold a guider.

Such a pipeline encodes the negative prompt itself and hands it to its guider, which decides what the denoiser is called
with. `vsf.guide` works on these pipelines too, where they can encode a prompt or the negative is encoded already.
"""

from collections.abc import Mapping
from threading import get_ident
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.guiders.guider_utils import BaseGuidance, GuiderOutput
from torch import Tensor, nn

from vsf.controls.schedule import Schedule
from vsf.errors import KnobError, NotGuidedError, PromptError, UnsupportedPipelineError
from vsf.families.base.family import Family
from vsf.guidance import method as make_method
from vsf.patching.swaps import swap_class
from vsf.runtime.report import Report
from vsf.runtime.session import Session
from vsf.text.embeddings import Negative


class VSFGuider(BaseGuidance):
    """Guides the one denoiser call of each step away from the pipeline's `negative_prompt`.

    method: a name from `vsf list methods`. knobs: its knobs, such as {"scale": 1.5}.
    start, stop: fractions of the steps between which it is on. enabled: False for no guidance at all.

    An omitted negative prompt is an empty one to the pipeline, whose marks are guided away from: use `disable()`.
    Where a pipeline does not tell the words of a negative prompt from padding, `negative` takes them from `vsf.encode`.
    A pipeline with several guiders, such as Wan 2.2, wants one for each.
    Raises UnknownNameError and KnobError; as the pipeline runs also PromptError and what `vsf.guide` raises.
    """

    negative: Negative | None = None
    """What `vsf.encode` returned, to guide away from in place of what the pipeline encodes; None for the latter."""

    _input_predictions = ["pred_cond"]  # noqa: RUF012 - the host wants a list

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        method: str = "vsf",
        knobs: Mapping[str, Any] | None = None,
        start: float = 0.0,
        stop: float = 1.0,
        enabled: bool = True,
    ) -> None:
        super().__init__(start, stop, enabled)
        self._method = make_method(method, **(knobs or {}))
        if self._method.model_calls != 1:
            raise KnobError(f'"{method}" calls the denoiser twice in each step; use diffusers.ClassifierFreeGuidance')
        self._negatives: dict[str, Any] = {}
        self._session: Session | None = None

    @property
    def report(self) -> Report:
        """What the guidance did to the latest denoiser. Raises NotGuidedError before the first run."""
        if self._session is None:
            raise NotGuidedError("the guider has not guided any denoiser yet: run the pipeline first")
        return self._session.report

    @property
    def is_conditional(self) -> bool:
        """Every call is."""
        return True

    @property
    def spatio_temporal_guidance_blocks(self) -> Any:
        """What LTX-2 asks its guider for. Raises UnsupportedPipelineError."""
        raise UnsupportedPipelineError(
            "the guiders of modular LTX-2, one for the picture and one for the sound, share the calls of the denoiser, "
            "so that neither can guide them; use LTX2Pipeline with vsf.guide"
        )

    @property
    def num_conditions(self) -> int:
        """Two, so that pipelines encode the negative prompt."""
        return 2

    def prepare_inputs(self, data: dict[str, Any]) -> list[Any]:
        """Make one batch, and keep the negatives' side of the data: name -> (positive, negative)."""
        self._negatives = {name: both[1] for name, both in data.items() if isinstance(both, tuple)}
        return [self._prepare_batch(data, 0, "pred_cond")]

    def prepare_inputs_from_block_state(self, data: Any, input_fields: dict[str, Any]) -> list[Any]:
        """Make one batch, and keep the negatives' side: name -> (name of the positive, of the negative)."""
        sides = {name: both[1] for name, both in input_fields.items() if isinstance(both, tuple)}
        self._negatives = {name: getattr(data, field, None) for name, field in sides.items()}
        return [self._prepare_batch_from_block_state(input_fields, data, 0, "pred_cond")]

    def prepare_models(self, denoiser: nn.Module) -> None:
        """Guide the denoiser's next call, if this is a step for it."""
        super().prepare_models(denoiser)
        if not self._is_on():
            return
        if self._session is None or self._session.target is not denoiser:
            self._session = Session(denoiser, self._method, Schedule(), None)
        given = self.negative
        self._session.use(_unpadded(self._session.family, self._negatives) if given is None else given)
        self._session.thread = get_ident()
        self._session.install()
        # The host does not clean up after an error, so the call itself does.
        self._session.add_undo(swap_class(denoiser, {"__call__": self._called}))

    def cleanup_models(self, denoiser: nn.Module) -> None:
        """Leave nothing behind."""
        del denoiser
        if self._session is not None:
            self._session.uninstall()

    def _called(self, original: Any, denoiser: nn.Module, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(denoiser, *args, **kwargs)
        finally:
            self.cleanup_models(denoiser)

    def __call__(self, data: list[Any]) -> Any:
        """Take the prediction as it is."""
        return self.forward(data[0].noise_pred)

    def forward(self, pred_cond: Tensor) -> Any:
        """Take the prediction as it is."""
        return GuiderOutput(pred=pred_cond, pred_cond=pred_cond, pred_uncond=None)

    def _is_on(self) -> bool:
        steps = self._num_inference_steps
        begun = steps is None or int(self._start * steps) <= self._step < int(self._stop * steps)
        return bool(self._enabled) and begun


def _unpadded(family: Family, negatives: Mapping[str, Any]) -> Negative:
    """Take the padding off the negatives a pipeline has encoded: what its mask hides, or what it filled up with zeros.

    Raises PromptError where there is no negative, or where padding cannot be told from words.
    """
    if family.text not in negatives:
        raise _untold(family)
    texts = negatives[family.text]
    if texts is None:
        raise PromptError(f"the pipeline has no {family.text} for a negative prompt: pass negative_prompt=")
    if isinstance(texts, list):
        return Negative(tuple(texts))
    mask, lengths = negatives.get(family.text_mask), negatives.get(family.text_lengths)
    if lengths is not None:
        mask = torch.arange(texts.shape[1], device=lengths.device) < lengths[:, None]
    elif mask is None and family.text_mask in negatives:
        mask = torch.ones(texts.shape[:2], dtype=torch.bool)
    if mask is None:
        mask = (texts != 0).any(-1)
        if bool(mask.all()):
            raise _untold(family)
    if family.encoder_sees_padding and not bool(mask.all()):
        raise _untold(family)
    return Negative.from_padded(family.text_of(negatives), mask)


def _untold(family: Family) -> PromptError:
    return PromptError(
        f"this {family.name} pipeline does not tell the words of its negative prompt from padding, or reads them with "
        "it; give them to the guider: guider.negative = vsf.encode(ordinary, texts), with an ordinary pipeline"
    )
