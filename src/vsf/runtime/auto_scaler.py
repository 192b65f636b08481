"""`scale="auto"` during a run: the attention that the negative got in one step decides the scale of the next."""

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.errors import KnobError
from vsf.guidance import Guidance, Observation, auto_scale


class AutoScaler:
    """Keeps the scale of every batch row through the steps of a run, as `AutoScale` chooses it.

    Raises:
        KnobError: the method has no scale that could follow the attention.
    """

    def __init__(self, method: Guidance) -> None:
        self._method = method
        self._rule = auto_scale(method)
        self._scale: Float[Tensor, "rows 1 1"] | None = None
        self._observations: list[Observation] = []

    def begin(self) -> None:
        """Start a run: its first step has the default scale."""
        self._scale = None

    def method(self, rows: int, device: torch.device) -> Guidance:
        """Return the method with the scale of the coming step, for a batch of this many rows."""
        if self._scale is None or len(self._scale) != rows:
            self._scale = self._rule.first(torch.zeros(rows, device=device))
        self._observations = []
        return self._method.with_knobs(scale=self._scale)

    def see(self, observation: Observation) -> None:
        """Note an observation made in a layer during this step."""
        self._observations.append(observation)

    def finish_step(self) -> Float[Tensor, " rows"]:
        """Choose the scale of the next step, and return that of this one.

        Raises:
            KnobError: nothing was observed.
        """
        if self._scale is None or not self._observations:
            raise KnobError(
                'scale="auto" follows the attention on the negative, which could not be observed here (compiled code, '
                "gradients wanted, or a device without a fused kernel); give a number"
            )
        scale = self._scale
        total = torch.zeros_like(scale[:, 0, 0])
        layers = torch.zeros_like(total)
        for observation in self._observations:
            rows = list(observation.rows)
            total[rows] += observation.mass.sum(1).mean(-1).to(total)
            layers[rows] += 1
        self._scale = self._rule.next(scale, total / layers)  # rows without a negative: 0/0, which leaves their scale
        return scale[:, 0, 0]
