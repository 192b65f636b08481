"""The report of guided runs: which layers were guided, how often, and how much the negatives were seen and changed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import nan

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vsf.controls.grid import Grid
from vsf.errors import NotGuidedError, PromptError
from vsf.guidance import Observation
from vsf.text.embeddings import Negative

UNSEEN = 1e-6
"""A negative whose share of the attention never exceeds this was not looked at."""

RowPrompts = tuple[int | None, ...]
"""For each observed batch row the prompt whose negatives act on it, None for none."""


@dataclass(slots=True)
class Report:
    """The effect of the guidance so far, filled while the pipeline runs.

    `mass()`, `change()` and `heat_map()` return the observations of the latest run. Nothing is observed in compiled
    code, nor where gradients are wanted.

    Attributes:
        method: the guidance.
        family: the model architecture.
        layers: names of the attention layers that the guidance is applied to.
        tokens: of the latest run, the length of each negative, those of one prompt side by side. A negative's number
            is its position here.
        steps: denoiser calls guided.
        calls: attention calls guided, but for those in compiled code, which cannot be counted.
        compiled: whether some attention calls were in compiled code.
        skipped: denoiser calls in which the schedule was off.
        seconds: time spent in the pipeline.
        observes: whether layers are watched, as `observe=True` asks for.
        scales: of the latest run, with scale="auto", the scale of every batch row in each guided step, on the device.
    """

    method: str
    family: str
    layers: tuple[str, ...]
    tokens: tuple[int, ...] = ()
    steps: int = 0
    calls: int = 0
    compiled: bool = False
    skipped: int = 0
    seconds: float = 0.0
    observes: bool = False
    scales: list[Float[Tensor, " rows"]] = field(default_factory=list)
    _observed: "_Observed" = field(default_factory=lambda: _Observed([]), repr=False)

    def begin(self, negative: Negative) -> None:
        """Start a run: drop the observations of the latest one, and number these negatives."""
        tokens: list[int] = []
        numbers_of_prompts = []
        for shares in negative.shares:
            first = len(tokens)
            tokens += [share.tokens for share in shares]
            numbers_of_prompts.append(range(first, len(tokens)))
        self.tokens = tuple(tokens)
        self.scales.clear()
        self._observed = _Observed(numbers_of_prompts)

    def begin_step(self, grid: Grid) -> None:
        """Start another denoiser call, with image tokens on this grid."""
        self._observed.begin_step(grid)

    def record(self, layer: str, row_to_prompt: Sequence[int | None], seen: Observation) -> None:
        """Keep an observation.

        Args:
            layer: name of the layer.
            row_to_prompt: for each row of the whole batch its prompt, None for a row without.
            seen: the observation, of some rows of the batch.
        """
        self._observed.record(layer, tuple(row_to_prompt[row] for row in seen.rows), seen)

    def mass(self) -> Float[Tensor, "steps layers negatives"]:
        """Return the share of the image's attention on each negative, mean over rows, heads and image tokens.

        NaN where a layer was not guided.

        Raises:
            NotGuidedError: the run was not observed.
        """
        self._require_observed()
        steps = range(self._observed.steps)
        values = []
        for step in steps:
            values += [self._observed.mass(step, layer) for layer in self.layers]
        return torch.tensor(values).reshape(len(steps), len(self.layers), len(self.tokens))

    def change(self) -> Float[Tensor, "steps layers"]:
        """Return ‖out − Z⁺‖/‖Z⁺‖ of the image's attention, mean over rows that have a negative.

        NaN where a layer was not guided.

        Raises:
            NotGuidedError: the run was not observed.
        """
        self._require_observed()
        steps = range(self._observed.steps)
        values = []
        for step in steps:
            values += [self._observed.change(step, layer, self.tokens) for layer in self.layers]
        return torch.tensor(values).reshape(len(steps), len(self.layers))

    def heat_map(self, negative: int = 0) -> Float[Tensor, "height width"] | Float[Tensor, "frames height width"]:
        """Return where the image looked at a negative: its share of the attention, mean over steps, layers and heads.

        A video has a map for each frame of its latents. Layers on a coarser grid count for all the tokens they cover.

        Args:
            negative: its number, the position in `tokens`.

        Raises:
            PromptError: no negative has this number.
            NotGuidedError: nothing was observed.
        """
        if not 0 <= negative < len(self.tokens):
            raise PromptError(f"negatives are numbered 0 to {len(self.tokens) - 1} as in `tokens`, got {negative!r}")
        self._require_observed()
        return self._observed.heat_map(negative)

    def __str__(self) -> str:
        title = f"{self.method} on {self.family}"
        off = f"the schedule was off in {self.skipped} denoiser calls" if self.skipped else ""
        if not self.steps:
            return f"{title}: nothing guided so far" + (f", {off}" if off else "")
        calls = "attention calls not counted (compiled)" if self.compiled else f"{self.calls} attention calls guided"
        where = f"in {self.steps} denoiser calls ({len(self.layers)} layers)"
        tokens = ", ".join(map(str, self.tokens))
        phrases = [f"{title}: {calls} {where}, negative of {tokens} tokens", *self._findings()]
        if self.scales:
            means = [f"{float(scale.mean()):.2f}" for scale in self.scales]
            phrases.append(f"scale {', '.join(means)}")
        if off:
            phrases.append(off)
        if self.seconds:
            phrases.append(f"{self.seconds:.1f} s")
        return "; ".join(phrases)

    def _require_observed(self) -> None:
        if not self.observes:
            raise NotGuidedError(
                "attention was not observed, which takes time: pass observe=True to vsf.guide, vsf.attach or "
                "vsf.generate (on the command line: --report)"
            )

    def _findings(self) -> Iterator[str]:
        """Yield phrases on the observations of the latest run, suspicious ones in capitals."""
        if not self.observes:
            yield "attention not observed"
            return
        change = self.change()
        if not bool(change.isfinite().any()):
            yield "what it did could not be observed"
            return
        mean = float(change.nanmean())
        most = float(change.nan_to_num().max())
        yield f"output changed by {mean:.1%} (at most {most:.1%})" if most > 0 else "THE OUTPUT NEVER CHANGED"
        mass = self.mass()
        for number, tokens in enumerate(self.tokens):
            if not tokens:
                continue
            of_negative = mass[:, :, number]
            if float(of_negative.nan_to_num().max()) > UNSEEN:
                yield f"negative {number} got {float(of_negative.nanmean()):.2%} of the attention"
            else:
                yield f"negative {number} NEVER GOT ATTENTION"


class _Observed:
    """Raw observations of one run, kept as tensors on the device and turned into numbers only when they are read.

    Reading them during a run would wait for the device in every layer.
    """

    def __init__(self, numbers_of_prompts: Sequence[Sequence[int]]) -> None:
        """Take for each prompt the numbers of its negatives."""
        self._numbers_of_prompts = numbers_of_prompts
        self._negatives = sum(map(len, numbers_of_prompts))
        self._grid: Grid | None = None
        self._calls: list[dict[str, list[tuple[RowPrompts, Tensor, Tensor]]]] = []
        self._heat: dict[tuple[RowPrompts, int], tuple[Tensor, int]] = {}

    @property
    def steps(self) -> int:
        return len(self._calls)

    def begin_step(self, grid: Grid) -> None:
        if grid != self._grid:
            self._heat.clear()
        self._grid = grid
        self._calls.append({})

    def record(self, layer: str, row_prompts: RowPrompts, seen: Observation) -> None:
        self._calls[-1].setdefault(layer, []).append((row_prompts, seen.change, seen.mass.mean(-1)))
        # Maps are summed up as they come: one for each layer and step would fill the memory of the device.
        key = row_prompts, seen.mass.shape[-1]
        total, count = self._heat.get(key, (torch.zeros_like(seen.mass), 0))
        self._heat[key] = (total + seen.mass, count + 1)

    def mass(self, step: int, layer: str) -> list[float]:
        """Return the mean of each negative over the rows that have it."""
        of_negatives: list[list[float]] = [[] for _ in range(self._negatives)]
        for row_prompts, _, mass in self._calls[step].get(layer, []):
            for row, slot, number in self._slots(row_prompts):
                of_negatives[number].append(float(mass[row, slot]))
        return [_mean(values) for values in of_negatives]

    def change(self, step: int, layer: str, tokens: Sequence[int]) -> float:
        """Return the mean over the rows that have a negative."""
        values = []
        for row_prompts, change, _ in self._calls[step].get(layer, []):
            # A dict keeps the order of the rows, and a row with several negatives counts once.
            rows: dict[int, None] = {}
            for row, _, number in self._slots(row_prompts):
                if tokens[number]:
                    rows[row] = None
            values += [float(change[row]) for row in rows]
        return _mean(values)

    def heat_map(self, negative: int) -> Tensor:
        maps = []
        calls = 0
        for (row_prompts, image_tokens), (total, count) in self._heat.items():
            for row, slot, number in self._slots(row_prompts):
                if number == negative:
                    maps.append(self._on_grid(total[row, slot], image_tokens))
                    calls += count
        if not maps:
            raise NotGuidedError(
                f"no attention on negative {negative} was observed: run the pipeline, uncompiled and without "
                "gradients, with a schedule that is not off"
            )
        mean: Tensor = sum(maps[1:], maps[0]) / calls
        return mean[0] if len(mean) == 1 else mean

    def _on_grid(self, values: Tensor, tokens: int) -> Float[Tensor, "frames height width"]:
        assert self._grid is not None
        maps = self._grid.fit(tokens).cut(values)
        return F.interpolate(maps[None], (self._grid.height, self._grid.width))[0]

    def _slots(self, row_prompts: RowPrompts) -> Iterator[tuple[int, int, int]]:
        """Yield (row, slot, number of the negative) of every negative in some rows of a batch."""
        for row, prompt in enumerate(row_prompts):
            if prompt is None:
                continue
            for slot, number in enumerate(self._numbers_of_prompts[prompt]):
                yield row, slot, number


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else nan
