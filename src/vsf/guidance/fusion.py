"""The fused route: the host's own attention call, followed by one or two Triton launches that apply a method to it.

`Guidance.fusion` returns a small value that names the kernel of `vsf.attention.fused` which computes the same as its
`combine` does in torch. The kernels read the results of the host's attention and the few keys of the negative prompt,
and write the guided rows where they belong: no float32 copy of the image rows is kept, and none is concatenated.
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
from vsf.attention.layout import COMMON
from vsf.attention.partial import Partial, lowest
from vsf.attention.rows import RowsCall, RowsPlan, with_four_axes


@dataclass(frozen=True, slots=True)
class Fusion:
    """A fused kernel that computes a method, and the numbers it takes.

    Attributes:
        kernel: the function of `vsf.attention.fused`.
        numbers: its keyword arguments: Python numbers, or tensors without axes or with one value per row.
        extrapolates: whether the kernel goes from Z⁺ away from Z⁻, and so needs the attention that both share.
    """

    kernel: Literal["flip", "nag", "nasa", "ong"]
    numbers: Mapping[str, Any]
    extrapolates: bool = False


class FusedRoute:
    """Guides a group of batch rows by a fused kernel; everything that layers share is made once."""

    def __init__(self, plan: RowsPlan, fusion: Fusion, *, text_too: bool) -> None:
        """Plan for these rows; with `text_too` the text rows are guided as well, with the strength of the image's."""
        from vsf.attention import fused  # needs Triton, which is there only for GPUs

        self._kernels: ModuleType = fused
        self._kernel: Callable[..., Any] = getattr(fused, fusion.kernel)
        self._plan = plan
        self._fusion = fusion
        # Flipped rows come along with the text rows, which the kernel then only hands on.
        self._rows: Literal["host", "image"] = "image" if plan.kind == "cross" or fusion.extrapolates else "host"
        image = plan.host_places["image"] if self._rows == "host" else slice(None)
        assert isinstance(image, slice)
        self._image = image
        self._guided = None if text_too or self._rows == "image" else (image.start, image.stop)
        self._strength = self._spread(plan.strength)
        self._negative_of_key = _negative_of_key(plan)
        self._biases: dict[str, tuple[Tensor | None, Tensor | None]] = {}

    def attend(
        self, call: RowsCall, negative_rows: Tensor | None, watch: Callable[[Observation], None] | None
    ) -> Float[Tensor, "batch heads queries channels"]:
        """Guide the rows of a call.

        Args:
            call: the rows' part of the host's call.
            negative_rows: output of the negatives' own rows; None in cross-attention, which has none.
            watch: called with the observation.

        Returns:
            The output of all rows, in the order of the sequence.
        """
        plan = self._plan
        if negative_rows is None:
            return self._guide(call, None, watch)
        batch, heads, tokens, channels = call.query.shape
        sequence = call.query.new_empty((batch, tokens, heads, channels)).transpose(1, 2)
        self._guide(call, sequence, watch)
        if self._rows == "image" and plan.has_text:
            sequence[:, :, plan.row_places["text"]] = call.text()
        sequence[:, :, plan.row_places["negative"]] = negative_rows
        return sequence

    def _guide(
        self, call: RowsCall, sequence: Tensor | None, watch: Callable[[Observation], None] | None
    ) -> Float[Tensor, "batch heads rows channels"]:
        """Launch the kernel on the rows' own attention call, and return the rows that it wrote."""
        plan = self._plan
        keys_and_shared: dict[str, Any] = {}
        source = call.model
        if self._fusion.extrapolates:
            shares = plan.layout.count(COMMON) > 0
            if shares and not plan.may_bypass and plan.layout.count(["positive"]):
                # Attention from image to image is computed once: the kernel adds the positive's keys to it for Z⁺.
                source = call.over("image", "common")
                keys_and_shared["positive"] = self._keys(call.over("image", "positive"), "positive")
            elif shares:
                # Z⁺ is the model's own call, which rows that bypass the method have to equal to the last bit.
                common = call.over("image", "common")
                source = call.cut("image") if plan.kind == "joint" else call.model
                keys_and_shared["shared"] = self._kernels.Shared(common.attend(), common.log_sum_exp)
        negative = self._keys(call.over("image", "negative"), "negative")
        out = source.attend()
        target = None if sequence is None else sequence[:, :, plan.row_places[self._rows]]
        rows = self._kernels.Rows(
            query=source.query,
            out=out,
            log_sum_exp=source.log_sum_exp,
            strength=self._strength,
            softmax_scale=call.scale,
            into=target,
            guided=self._guided,
        )
        request = None
        if watch is not None:
            request = self._kernels.Watch(self._negative_of_key, len(plan.layout.negative_lengths))
        observed = self._kernel(rows, negative, **self._fusion.numbers, **keys_and_shared, watch=request)
        if watch is not None:
            watch(self._observation(observed))
        return out if target is None else target

    def _keys(self, partial: Partial, name: str) -> Any:
        """Return the keys of a partial as the kernels take them, hidden ones by a bias of -inf.

        Torch's attention hides them by a large negative number instead (see `lowest`), which would leave a trace here.
        """
        converted, bias = self._biases.get(name, (None, None))
        if partial.bias is not None and converted is not partial.bias:
            float_bias = partial.bias.float()
            bias = float_bias.masked_fill(float_bias <= lowest(self._plan.dtype), -torch.inf)[:, 0, 0]
            self._biases[name] = partial.bias, bias
        return self._kernels.Keys(partial.key, partial.value, None if partial.bias is None else bias)

    def _spread(self, strength: float | Tensor) -> float | Tensor:
        """Extend strengths of image rows to all rows that the kernel gets; those of the others do not count."""
        if not isinstance(strength, Tensor) or not strength.dim():
            return strength
        of_image = strength.float().reshape(-1, strength.shape[-2])
        if self._rows == "image":
            return of_image
        host_rows = self._plan.layout.of_rows().without_negatives().tokens
        spread = of_image.new_zeros(len(of_image), host_rows)
        spread[:, self._image] = of_image
        return spread

    def _observation(self, observed: Any) -> Observation:
        changed = observed.change[..., self._image].sum((1, 2))
        length = observed.length[..., self._image].sum((1, 2))
        change = (changed / length.clamp(min=torch.finfo(length.dtype).tiny)).sqrt()
        return Observation(self._plan.index, change, observed.mass[..., self._image].mean(1))


def can_fuse(plan: RowsPlan, channels: int) -> bool:
    """Tell whether the fused kernels can guide rows of this plan: neighbours in the sequence, of 32 or 16 bits."""
    if not plan.acts or plan.emphasis is not None or plan.place_weights is not None or channels > 256:
        return False
    if plan.dtype not in (torch.float16, torch.bfloat16, torch.float32) or not _has_kernels(plan.device.type):
        return False
    return plan.kind == "cross" or all(isinstance(index, slice) for index in plan.row_places.values())


def takes_mask(mask: Tensor | None) -> bool:
    """Tell whether the fused kernels can follow a host's mask, which has to hide keys from all rows alike."""
    return mask is None or with_four_axes(mask).shape[1:3] == (1, 1)


def _has_kernels(device: str) -> bool:
    """Tell whether Triton is installed and compiles for this device; looked for without importing it."""
    if device == "cuda" and importlib.util.find_spec("triton") is not None:
        return True
    # Tests of the kernels in Triton's interpreter import them before, and add the CPU to their devices.
    loaded: Any = sys.modules.get("vsf.attention.fused")
    return loaded is not None and device in loaded.DEVICES


_has_kernels._dynamo_marked_constant = True  # type: ignore[attr-defined]  # see vsf.attention.kernels


def _negative_of_key(plan: RowsPlan) -> Tensor:
    """Return for each negative key the number of the negative that it belongs to."""
    lengths = plan.layout.negative_lengths
    numbers = torch.zeros(sum(lengths), dtype=torch.int32, device=plan.device)
    start = 0
    for number, length in enumerate(lengths):
        numbers[start : start + length] = number
        start += length
    return numbers
