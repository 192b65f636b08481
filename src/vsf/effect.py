"""What a guided run did: which layers, how often, with how many negative tokens."""

from dataclasses import dataclass


@dataclass(slots=True)
class Report:
    """The effect of the guidance so far, filled while the pipeline runs.

    layers: names of the attention layers that the guidance is applied to.
    tokens: length of each negative of the latest run. steps: denoiser calls guided. calls: attention calls guided,
    but for those in compiled code, which cannot be counted.
    """

    method: str
    family: str
    layers: tuple[str, ...]
    tokens: tuple[int, ...] = ()
    steps: int = 0
    calls: int = 0
    compiled: bool = False

    def __str__(self) -> str:
        title = f"{self.method} on {self.family}"
        if not self.steps:
            return f"{title}: nothing guided so far"
        tokens = ", ".join(map(str, self.tokens))
        calls = "attention calls not counted (compiled)" if self.compiled else f"{self.calls} attention calls guided"
        where = f"in {self.steps} denoiser calls ({len(self.layers)} layers)"
        return f"{title}: {calls} {where}, negative of {tokens} tokens"
