"""`scale="auto"` on a live pipeline: what each step saw decides the scale of the next."""

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.errors import KnobError
from vsf.guidance import Guidance, Observation, auto_scale


class Pace:
    """The scale of every row of a batch through the steps of a run.

    Raises KnobError for a method whose scale cannot follow the attention.
    """

    def __init__(self, method: Guidance) -> None:
        self._method, self._auto = method, auto_scale(method)
        self._scale: Float[Tensor, "rows 1 1"] | None = None
        self._seen: list[Observation] = []

    def begin(self) -> None:
        """Start a run: its first step has the default scale."""
        self._scale = None

    def method(self, rows: int, device: torch.device) -> Guidance:
        """Return the method with the scale of the coming step."""
        if self._scale is None or len(self._scale) != rows:
            self._scale = self._auto.first(torch.zeros(rows, device=device))
        self._seen = []
        return self._method.with_knobs(scale=self._scale)

    def see(self, seen: Observation) -> None:
        """Note what a layer saw."""
        self._seen.append(seen)

    def finish_step(self) -> Float[Tensor, " rows"]:
        """Choose the scale of the next step; return that of this one. Raises KnobError when nothing was observed."""
        if self._scale is None or not self._seen:
            raise KnobError(
                'scale="auto" follows the attention on the negative, which could not be observed here (compiled code, '
                "gradients wanted, or a device without a fused kernel); give a number"
            )
        now, total = self._scale, torch.zeros_like(self._scale[:, 0, 0])
        count = torch.zeros_like(total)
        for seen in self._seen:
            rows = list(seen.rows)
            total[rows] += seen.mass.sum(1).mean(-1).to(total)
            count[rows] += 1
        self._scale = self._auto.next(now, total / count)  # rows without a negative: 0/0, which leaves them alone
        return now[:, 0, 0]
