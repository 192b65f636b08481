"""What a guided run did: which layers, how often, and how much the negatives were seen and changed."""

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

Rows = tuple[int | None, ...]
"""For each observed row of a batch the prompt whose negatives act on it, None for none."""


@dataclass(slots=True)
class Report:
    """The effect of the guidance so far, filled while the pipeline runs.

    layers: names of the attention layers that the guidance is applied to.
    steps: denoiser calls guided. skipped: denoiser calls in which the schedule was off. calls: attention calls guided,
    but for those in compiled code, which cannot be counted. seconds: time spent in the pipeline. observes: whether
    layers are watched, as `observe=True` asks for.
    Of the latest run: tokens: length of each negative, those of one prompt side by side; their places here are their
    numbers. scales: with scale="auto" the scale of every batch row in each guided step, on the device. `mass()`,
    `change()` and `heat_map()`: what was observed, which is nothing in compiled code and where gradients are wanted;
    they raise NotGuidedError where nobody asked to observe.
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
    _effect: "_Effect" = field(default_factory=lambda: _Effect(()), repr=False)

    def begin(self, negative: Negative) -> None:
        """Forget what was observed, and number these negatives."""
        self.tokens = tuple(share.tokens for shares in negative.shares for share in shares)
        self.scales.clear()
        numbers = iter(range(len(self.tokens)))
        self._effect = _Effect(tuple(tuple(next(numbers) for _ in shares) for shares in negative.shares))

    def begin_step(self, grid: Grid) -> None:
        """Take what is recorded from now on as another denoiser call, on this grid of image tokens."""
        self._effect.begin_step(grid)

    def record(self, layer: str, owners: Sequence[int | None], seen: Observation) -> None:
        """Keep what was observed in a layer; `owners` has the prompt of each row of the batch."""
        self._effect.record(layer, tuple(owners[row] for row in seen.rows), seen)

    def mass(self) -> Float[Tensor, "steps layers negatives"]:
        """Share of the image's attention on each negative, mean over rows, heads and image tokens; NaN: not guided.

        Raises:
            NotGuidedError: the run was not observed.
        """
        self._require_observed()
        steps = range(self._effect.steps)
        values = [[self._effect.mass(step, layer) for layer in self.layers] for step in steps]
        return torch.tensor(values).reshape(len(steps), len(self.layers), len(self.tokens))

    def change(self) -> Float[Tensor, "steps layers"]:
        """‖out − Z⁺‖/‖Z⁺‖ of the image's attention, mean over rows that have a negative; NaN: not guided.

        Raises:
            NotGuidedError: the run was not observed.
        """
        self._require_observed()
        steps = range(self._effect.steps)
        values = [[self._effect.change(step, layer, self.tokens) for layer in self.layers] for step in steps]
        return torch.tensor(values).reshape(len(steps), len(self.layers))

    def heat_map(self, negative: int = 0) -> Float[Tensor, "height width"] | Float[Tensor, "frames height width"]:
        """Where the image looked at this negative: its share of the attention, mean over steps, layers and heads.

        A video has a map for each frame of its latents. Layers on a coarser grid count for all the tokens they cover.
        Raises PromptError for a number that no negative has, NotGuidedError when nothing was observed.
        """
        if not 0 <= negative < len(self.tokens):
            raise PromptError(f"negatives are numbered 0 to {len(self.tokens) - 1} as in `tokens`, got {negative!r}")
        self._require_observed()
        return self._effect.heat_map(negative)

    def __str__(self) -> str:
        title = f"{self.method} on {self.family}"
        off = f"the schedule was off in {self.skipped} denoiser calls" if self.skipped else ""
        if not self.steps:
            return f"{title}: nothing guided so far" + (f", {off}" if off else "")
        tokens = ", ".join(map(str, self.tokens))
        calls = "attention calls not counted (compiled)" if self.compiled else f"{self.calls} attention calls guided"
        where = f"in {self.steps} denoiser calls ({len(self.layers)} layers)"
        scale = f"scale {', '.join(f'{float(one.mean()):.2f}' for one in self.scales)}" if self.scales else ""
        told = [f"{title}: {calls} {where}, negative of {tokens} tokens", *self._findings()]
        told += [more for more in (scale, off) if more]
        return "; ".join([*told, f"{self.seconds:.1f} s"] if self.seconds else told)

    def _require_observed(self) -> None:
        if not self.observes:
            raise NotGuidedError(
                "attention was not observed, which takes time: pass observe=True to vsf.guide, vsf.attach or "
                "vsf.generate (on the command line: --report)"
            )

    def _findings(self) -> Iterator[str]:
        """Say what was observed in the latest run, and what is suspicious about it."""
        if not self.observes:
            yield "attention not observed"
            return
        change = self.change()
        if not bool(change.isfinite().any()):
            yield "what it did could not be observed"
            return
        mean, most = float(change.nanmean()), float(change.nan_to_num().max())
        yield f"output changed by {mean:.1%} (at most {most:.1%})" if most > 0 else "THE OUTPUT NEVER CHANGED"
        mass = self.mass()
        for number, tokens in enumerate(self.tokens):
            share = mass[:, :, number]
            if tokens:
                seen = float(share.nan_to_num().max()) > UNSEEN
                found = f"got {float(share.nanmean()):.2%} of the attention" if seen else "NEVER GOT ATTENTION"
                yield f"negative {number} {found}"


class _Effect:
    """Raw observations of one run, as tensors on the device; turned into numbers when they are read."""

    def __init__(self, numbers: tuple[tuple[int, ...], ...]) -> None:
        """Take the numbers of each prompt's negatives."""
        self.numbers = numbers
        self.grid: Grid | None = None
        self._calls: list[dict[str, list[tuple[Rows, Tensor, Tensor]]]] = []
        self._heat: dict[tuple[Rows, int], tuple[Tensor, int]] = {}

    @property
    def steps(self) -> int:
        return len(self._calls)

    def begin_step(self, grid: Grid) -> None:
        if grid != self.grid:
            self._heat.clear()
        self.grid = grid
        self._calls.append({})

    def record(self, layer: str, rows: Rows, seen: Observation) -> None:
        self._calls[-1].setdefault(layer, []).append((rows, seen.change, seen.mass.mean(-1)))
        key = rows, seen.mass.shape[-1]
        total, count = self._heat.get(key, (torch.zeros_like(seen.mass), 0))
        self._heat[key] = (total + seen.mass, count + 1)

    def mass(self, step: int, layer: str) -> list[float]:
        """Mean of each negative over the rows that have it."""
        found: list[list[float]] = [[] for own in self.numbers for _ in own]
        for rows, _, mass in self._calls[step].get(layer, []):
            for row, slot, number in self._places(rows):
                found[number].append(float(mass[row, slot]))
        return [_mean(values) for values in found]

    def change(self, step: int, layer: str, tokens: Sequence[int]) -> float:
        """Mean over the rows that have a negative."""
        seen = self._calls[step].get(layer, [])
        guided = [(change, {row for row, _, n in self._places(rows) if tokens[n]}) for rows, change, _ in seen]
        return _mean([float(change[row]) for change, rows in guided for row in sorted(rows)])

    def heat_map(self, number: int) -> Tensor:
        maps, calls = [], 0
        for (rows, tokens), (total, count) in self._heat.items():
            own = [total[row, slot] for row, slot, found in self._places(rows) if found == number]
            maps += [self._on_grid(each, tokens) for each in own]
            calls += count * len(own)
        if not maps:
            raise NotGuidedError(
                f"no attention on negative {number} was observed: run the pipeline, uncompiled and without gradients, "
                "with a schedule that is not off"
            )
        mean: Tensor = sum(maps[1:], maps[0]) / calls
        return mean[0] if len(mean) == 1 else mean

    def _on_grid(self, values: Tensor, tokens: int) -> Float[Tensor, "frames height width"]:
        assert self.grid is not None
        maps = self.grid.fit(tokens).cut(values)
        return F.interpolate(maps[None], (self.grid.height, self.grid.width))[0]

    def _places(self, rows: Rows) -> Iterator[tuple[int, int, int]]:
        """Yield (row, slot, number of the negative) of every negative in some rows of a batch."""
        for row, owner in enumerate(rows):
            if owner is not None:
                for slot, number in enumerate(self.numbers[owner]):
                    yield row, slot, number


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else nan
