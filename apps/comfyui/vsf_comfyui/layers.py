"""The attention of one guided model call: which calls see the text, and what they do instead of the host's own."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from vsf.controls.schedule import Schedule
from vsf.hosting import GuidedCall, HostAttention, Role

Attention = Callable[..., Tensor]
INACTIVE = "inactive"
"""The name of every layer in which a schedule leaves the method off."""
_OVERRIDE = "optimized_attention_override"
"""The host's one slot for a function that attends in place of its own."""
_TORCH = ("attention_pytorch", "attention_basic", "attention_split", "attention_sub_quad")
"""The host's attention functions that compute what torch's does, some of them in pieces to save memory."""


class Layers:
    """The attention layers of one guided model call, known by their order.

    seen: attention calls so far. found: those that see the text. active: names of those that are guided.
    """

    call: GuidedCall
    role: Role
    positive: int
    """Tokens of the positive text."""

    def __init__(self, schedule: Schedule, options: Mapping[str, Any]) -> None:
        self._schedule = schedule
        self._host_options = options
        self._before = options.get(_OVERRIDE)
        self.seen = 0
        self.found = 0
        self.active: list[str] = []

    @property
    def options(self) -> dict[str, Any]:
        """The host's options of the call, changed so that these layers attend."""
        options = {**self._host_options, _OVERRIDE: self.attend}
        replaced = options.get("patches_replace", {}).get("attn2", {})
        if replaced:
            attn2 = {place: partial(self.attend_beside, own) for place, own in replaced.items()}
            options["patches_replace"] = {**options["patches_replace"], "attn2": attn2}
        return options

    def attend(self, func: Attention, q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any, **kwargs: Any) -> Tensor:
        """Stand in for the host's attention; calls that do not see the text go where they went before."""
        axis = 2 if kwargs.get("skip_reshape") else 1
        self.seen += 1
        host = func if self._before is None else partial(self._before, func)
        if not self.call.sees_text(self.role, q.shape[axis], k.shape[axis]):
            return host(q, k, v, heads, *args, **kwargs)
        mask = args[0] if args else kwargs.get("mask")
        out = self.call.attend(
            self.role,
            *by_heads(q, k, v, heads, axis),
            bias=mask[:, None] if mask is not None and mask.dim() == 3 else mask,
            scale=kwargs.get("scale"),
            name=self._next_name(),
            host=self._host_attention(func, host, heads, kwargs),
        )
        return out if kwargs.get("skip_output_reshape") else out.transpose(1, 2).flatten(2)

    def _host_attention(
        self, func: Attention, host: Attention, heads: int, given: Mapping[str, Any]
    ) -> HostAttention | None:
        """Return the attention that others chose, such as Sage's, to stay in use; None where it is torch's.

        Not all of it takes a mask, so calls that need one are torch's.
        """
        if self._before is None and func.__name__ in _TORCH:
            return None
        kept = {name: value for name, value in given.items() if name not in ("mask", "scale", "enable_gqa")}
        kept |= {"skip_reshape": True, "skip_output_reshape": True}

        def plain(q: Tensor, k: Tensor, v: Tensor, bias: None = None, scale: float | None = None) -> Tensor:
            del bias
            groups = heads // k.shape[1]
            k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
            return host(q, k, v, heads, **kept, **({} if scale is None else {"scale": scale}))

        return HostAttention(plain, takes_bias=False)

    def attend_beside(
        self, own: Attention, q: Tensor, k: Tensor, v: Tensor, extra: Mapping[str, Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        """Stand in for what others put in the place of a U-Net's cross-attention, such as an IP-Adapter.

        It attends by itself, so it is asked for the positive text alone, and gets what the method changes.
        """
        positive = self.positive
        tensors = by_heads(q, k, v, extra["n_heads"], 1)
        self.seen += 1
        name = self._next_name()
        change = self.call.attend(self.role, *tensors, name=name) - self.call.attend(self.role, *tensors, name=INACTIVE)
        return own(q, k[:, :positive], v[:, :positive], extra, *args, **kwargs) + change.transpose(1, 2).flatten(2)

    def check_choice(self) -> None:
        """Raise KnobError when the schedule names a layer that the model does not have."""
        self._schedule.acts_on(0, self.found)

    def _next_name(self) -> str:
        number = self.found
        self.found += 1
        chosen = self._schedule.layers
        if chosen is not None and number not in chosen:
            return INACTIVE
        name = f"attention {number}"
        self.active.append(name)
        return name


def by_heads(q: Tensor, k: Tensor, v: Tensor, heads: int, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """Bring query, key and value to (batch, heads, tokens, channels); keys and values may have fewer heads.

    Not every model hands all three over in the same form: SD3's values come cut into heads already.
    """
    if axis == 2:
        return q, k, v
    width = q.shape[2] // heads
    q, k, v = (tensor.reshape(*tensor.shape[:2], -1, width).transpose(1, 2) for tensor in (q, k, v))
    return q, k, v
