"""The fused route: the host's own attention call, and one or two Triton launches for what a method makes of it.

A method with a `fusion` says in one small value which kernel of `vsf.attention.fused` does what its `combine` does in
torch. The kernels read what the host's attention left and the few keys of the negative prompt, and write the guided
rows where they belong: no float32 copy of the image rows is kept, and none is concatenated.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vsf.attention.control import Observation
from vsf.attention.partial import Partial, lowest
from vsf.attention.rows import RowsCall, RowsPlan, with_four_axes


@dataclass(frozen=True, slots=True)
class Fusion:
    """Which fused kernel computes a method, and its numbers: Python's own, or tensors without axes or one per row.

    extrapolates: whether the kernel goes from Z⁺ away from Z⁻, and so wants the attention apart that both share.
    """

    kernel: Literal["flip", "nag", "nasa", "ong"]
    numbers: Mapping[str, Any]
    extrapolates: bool = False


class FusedRoute:
    """How rows that are alike are guided by a fused kernel; what does not change between layers is made once."""

    def __init__(self, plan: RowsPlan, fusion: Fusion, *, text_too: bool) -> None:
        """Plan for these rows; `text_too` guides the text rows as well, which then have the image's strength."""
        from vsf.attention import fused

        self._kernels: ModuleType = fused
        self._kernel: Callable[..., Any] = getattr(fused, fusion.kernel)
        self._plan, self._fusion = plan, fusion
        # Flipped rows come along with the text rows, which the kernel then only hands on.
        self._rows: Literal["host", "image"] = "image" if plan.kind == "cross" or fusion.extrapolates else "host"
        image = plan.host_places["image"] if self._rows == "host" else slice(None)
        assert isinstance(image, slice)
        self._image = image
        self._guided = None if text_too or self._rows == "image" else (image.start, image.stop)
        self._strength = self._spread(plan.strength)
        self._owner = _owner_of_keys(plan)
        self._biases: dict[str, tuple[Tensor | None, Tensor | None]] = {}

    def attend(
        self, call: RowsCall, negative_rows: Tensor | None, watch: Callable[[Observation], None] | None
    ) -> Float[Tensor, "batch heads queries channels"]:
        """Guide the rows of a call, and put those of the negatives beside them, which a cross call has not."""
        plan = self._plan
        if negative_rows is None:
            return self._guide(call, None, watch)
        batch, heads, tokens, channels = call.query.shape
        whole = call.query.new_empty((batch, tokens, heads, channels)).transpose(1, 2)
        self._guide(call, whole, watch)
        if self._rows == "image" and plan.has_text:
            whole[:, :, plan.row_places["text"]] = call.text()
        whole[:, :, plan.row_places["negative"]] = negative_rows
        return whole

    def _guide(
        self, call: RowsCall, whole: Tensor | None, watch: Callable[[Observation], None] | None
    ) -> Float[Tensor, "batch heads rows channels"]:
        """Launch the kernel."""
        plan, more = self._plan, {}
        source = call.model
        if self._fusion.extrapolates:
            shares = plan.kind == "joint" or plan.layout.count(["shared"]) > 0
            if shares and not plan.may_bypass and plan.layout.count(["positive"]):
                source = call.over("image", "common")
                more["positive"] = self._keys(call.over("image", "positive"), "positive")
            elif shares:
                common = call.over("image", "common")
                source = call.cut("image") if plan.kind == "joint" else call.model
                more["shared"] = self._kernels.Shared(common.attend(), common.log_sum_exp)
        negative = self._keys(call.over("image", "negative"), "negative")
        out = source.attend()
        into = None if whole is None else whole[:, :, plan.row_places[self._rows]]
        rows = self._kernels.Rows(source.query, out, source.log_sum_exp, self._strength, call.scale, into, self._guided)
        asked = None if watch is None else self._kernels.Watch(self._owner, len(plan.layout.negative_lengths))
        observed = self._kernel(rows, negative, **self._fusion.numbers, **more, watch=asked)
        if watch is not None:
            watch(self._observation(observed))
        return out if into is None else into

    def _keys(self, partial: Partial, name: str) -> Any:
        """Return the keys of a partial as the kernel takes them: hidden ones by -inf, which leaves no trace."""
        known, bias = self._biases.get(name, (None, None))
        if partial.bias is not None and known is not partial.bias:
            wide = partial.bias.float()
            bias = wide.masked_fill(wide <= lowest(self._plan.dtype), -torch.inf)[:, 0, 0]
            self._biases[name] = partial.bias, bias
        return self._kernels.Keys(partial.key, partial.value, None if partial.bias is None else bias)

    def _spread(self, strength: float | Tensor) -> float | Tensor:
        """Let strengths of image rows be those of all rows that the kernel gets; it leaves the others alone."""
        if not isinstance(strength, Tensor) or not strength.dim():
            return strength
        own = strength.float().reshape(-1, strength.shape[-2])
        if self._rows == "image":
            return own
        spread = own.new_zeros(len(own), self._plan.layout.without_negatives().tokens)
        spread[:, self._image] = own
        return spread

    def _observation(self, observed: Any) -> Observation:
        changed, length = (parts[..., self._image].sum((1, 2)) for parts in (observed.change, observed.length))
        change = (changed / length.clamp(min=torch.finfo(length.dtype).tiny)).sqrt()
        return Observation(self._plan.index, change, observed.mass[..., self._image].mean(1))


def can_fuse(plan: RowsPlan, channels: int) -> bool:
    """Whether the fused kernels serve rows of this plan: where they stand side by side, in single or half precision."""
    if not plan.acts or plan.emphasis is not None or channels > 256:
        return False
    if plan.dtype not in (torch.float16, torch.bfloat16, torch.float32) or not _has_kernels(plan.device.type):
        return False
    return plan.kind == "cross" or all(isinstance(places, slice) for places in plan.row_places.values())


def takes_mask(mask: Tensor | None) -> bool:
    """Whether the fused kernels can follow a host's mask, which has to hide keys from all rows alike."""
    return mask is None or with_four_axes(mask).shape[1:3] == (1, 1)


def _has_kernels(device: str) -> bool:
    """Whether Triton is there and compiles to this device; it is imported where there is a GPU alone."""
    if device == "cuda" and importlib.util.find_spec("triton") is not None:
        return True
    loaded: Any = sys.modules.get("vsf.attention.fused")
    return loaded is not None and device in loaded.DEVICES


_has_kernels._dynamo_marked_constant = True  # type: ignore[attr-defined]  # see vsf.attention.kernels


def _owner_of_keys(plan: RowsPlan) -> Tensor:
    """Return the number of the negative that each negative key belongs to."""
    lengths = plan.layout.negative_lengths
    owner = torch.zeros(sum(lengths), dtype=torch.int32, device=plan.device)
    start = 0
    for number, length in enumerate(lengths):
        owner[start : start + length] = number
        start += length
    return owner
