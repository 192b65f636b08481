"""Record the effect of guidance in the latest run of a MODEL, for the nodes VSF Report and VSF Heat Map."""

from time import perf_counter

import torch
from torch import Tensor

from vsf.controls.grid import Grid
from vsf.errors import NotGuidedError
from vsf.guidance import Observation
from vsf.runtime.report import Report
from vsf.text.embeddings import Negative


class Trace:
    """The effect of the guidance in the latest run of a MODEL, filled while a sampler runs.

    Attributes:
        method: Name of the guidance method.
        report: The record of the run. Its layers are the attention calls of the model that see the text, numbered in
            the order in which they are found.
    """

    def __init__(self, method: str, *, observes: bool) -> None:
        self.method = method
        self.report = Report(method, "a model that has not run yet", (), observes=observes)
        self._began = 0.0

    def begin_run(self) -> None:
        """Discard the previous run."""
        self.report = Report(self.method, self.report.family, (), observes=self.report.observes)
        self._began = perf_counter()

    def begin(self, family: str, negative: Negative) -> None:
        """Record the model that is guided, and its negatives."""
        self.report.family = family
        self.report.begin(negative)

    def begin_step(self, grid: Grid) -> None:
        """Start the record of another model call."""
        self.report.begin_step(grid)

    def record(self, layer: str, owners: list[int | None], observation: Observation) -> None:
        """Record an observation of a layer; `owners` has 0 for the rows that are guided."""
        self._add_layer(layer)
        self.report.record(layer, owners, observation)

    def finish_step(self, *, compiled: bool, layers: list[str]) -> None:
        """Count a guided model call and the layers that were guided in it."""
        self.report.steps += 1
        self.report.compiled |= compiled
        if compiled:
            return
        self.report.calls += len(layers)
        for layer in layers:
            self._add_layer(layer)

    def skip_step(self) -> None:
        """Count a model call in which the schedule is off."""
        self.report.skipped += 1

    def finish_run(self) -> None:
        """Record how long the run took."""
        self.report.seconds = perf_counter() - self._began

    def text(self) -> str:
        """Return the report with a line for each guided layer."""
        report = self.report
        lines = [str(report)]
        if not report.steps or report.compiled:
            return lines[0]
        if not report.observes:
            return f"{lines[0]}\nSwitch on `observe` in VSF Guidance to see what attention did, layer by layer."
        change = report.change()
        mass = report.mass()
        for number, layer in enumerate(report.layers):
            shares = ", ".join(f"{float(share):.2%}" for share in mass[:, number].nanmean(0))
            lines.append(f"{layer}: output changed by {float(change[:, number].nanmean()):.2%}, attention {shares}")
        return "\n".join(lines)

    def pictures(self, negative: int, size: int = 512) -> Tensor:
        """Return heat maps of the image's attention on a negative.

        Args:
            negative: Number of the negative, from 0.
            size: Approximate length of the larger side in pixels; every token is a square of whole pixels.

        Returns:
            Pictures (frames, height, width, 3) from 0 to 1, the strongest attention of all frames at 1.

        Raises:
            PromptError: No negative has this number.
            NotGuidedError: Nothing was observed.
        """
        if not self.report.observes:
            raise NotGuidedError("attention was not observed, which takes time: switch on observe in VSF Guidance")
        heat = self.report.heat_map(negative).float().cpu()
        frames = heat if heat.dim() == 3 else heat[None]
        bright = frames / frames.max().clamp(min=torch.finfo(torch.float32).tiny)
        side = max(size // max(frames.shape[-2:]), 1)
        squares = bright.repeat_interleave(side, -2).repeat_interleave(side, -1)
        return squares[..., None].expand(*squares.shape, 3).contiguous()

    def _add_layer(self, layer: str) -> None:
        if layer not in self.report.layers:
            self.report.layers = (*self.report.layers, layer)
