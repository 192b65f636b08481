"""The attention of one guided model call: recognise the calls that see the text, and replace the host's attention."""

from functools import partial
from typing import Any

from torch import Tensor

from vsf.controls.schedule import Schedule
from vsf.hosting import GuidedCall, HostAttention, Role

from .interfaces import Attention, Options

INACTIVE = "inactive"
"""Name of every layer in which the schedule leaves the method off."""
_OVERRIDE = "optimized_attention_override"
"""The host's option for a function that replaces its attention; there is one, so an earlier one has to be called."""
_TORCH = ("attention_pytorch", "attention_basic", "attention_split", "attention_sub_quad")
"""The host's attention functions that compute what torch's does, some of them in pieces to save memory."""


class Layers:
    """The attention layers of one guided model call, identified by their order.

    Attributes:
        call: The guided call, set before the model runs.
        role: How the layers that see the text are laid out, set before the model runs.
        positive: Tokens of the positive text, set before the model runs.
        seen: Attention calls so far.
        found: Those that see the text.
        active: Names of those that are guided.
    """

    call: GuidedCall
    role: Role
    positive: int

    def __init__(self, schedule: Schedule, options: Options) -> None:
        self._schedule = schedule
        self._host_options = options
        self._before = options.get(_OVERRIDE)
        self.seen = 0
        self.found = 0
        self.active: list[str] = []

    @property
    def options(self) -> dict[str, Any]:
        """The host's options of the call, changed so that attention runs through these layers."""
        options = {**self._host_options, _OVERRIDE: self.attend}
        replacements = options.get("patches_replace", {}).get("attn2", {})
        if replacements:
            attn2 = {place: partial(self.attend_replaced, attention) for place, attention in replacements.items()}
            options["patches_replace"] = {**options["patches_replace"], "attn2": attn2}
        return options

    def attend(self, func: Attention, q: Tensor, k: Tensor, v: Tensor, heads: int, *args: Any, **kwargs: Any) -> Tensor:
        """Replace the host's attention; calls that do not see the text are passed on unchanged."""
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

    def _host_attention(self, func: Attention, host: Attention, heads: int, options: Options) -> HostAttention | None:
        """Return the attention that the user chose, such as Sage's, so that it stays in use; None if it is torch's.

        Not every one takes a mask, so calls that need one use torch's.
        """
        if self._before is None and func.__name__ in _TORCH:
            return None
        host_options = {name: value for name, value in options.items() if name not in ("mask", "scale", "enable_gqa")}
        host_options |= {"skip_reshape": True, "skip_output_reshape": True}

        def plain(q: Tensor, k: Tensor, v: Tensor, bias: None = None, scale: float | None = None) -> Tensor:
            del bias
            groups = heads // k.shape[1]
            k = k.repeat_interleave(groups, 1)
            v = v.repeat_interleave(groups, 1)
            # Passed only if there is one: otherwise the host's default holds.
            scale_option = {} if scale is None else {"scale": scale}
            return host(q, k, v, heads, **host_options, **scale_option)

        return HostAttention(plain, takes_bias=False)

    def attend_replaced(
        self,
        replacement: Attention,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        extra: Options,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Guide a replacement of a U-Net's cross-attention by another node, such as an IP-Adapter.

        The replacement attends by itself, so it is called with the positive text alone, and the change that the method
        makes to plain attention is added to its output.
        """
        positive = self.positive
        tensors = by_heads(q, k, v, extra["n_heads"], 1)
        self.seen += 1
        name = self._next_name()
        change = self.call.attend(self.role, *tensors, name=name) - self.call.attend(self.role, *tensors, name=INACTIVE)
        out = replacement(q, k[:, :positive], v[:, :positive], extra, *args, **kwargs)
        return out + change.transpose(1, 2).flatten(2)

    def check_choice(self) -> None:
        """Raise KnobError if the schedule names a layer that the model does not have."""
        self._schedule.acts_on(0, self.found)

    def _next_name(self) -> str:
        """Return the name of the next layer that sees the text, and count it."""
        number = self.found
        self.found += 1
        chosen = self._schedule.layers
        if chosen is not None and number not in chosen:
            return INACTIVE
        name = f"attention {number}"
        self.active.append(name)
        return name


def by_heads(q: Tensor, k: Tensor, v: Tensor, heads: int, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """Reshape query, key and value to (batch, heads, tokens, channels); keys and values may have fewer heads.

    A model may pass the three in different forms: SD3's values are split into heads already.

    Args:
        q: Query, (batch, tokens, channels) or split into heads.
        k: Key, likewise.
        v: Value, likewise.
        heads: Heads of the query.
        axis: Axis of the tokens: 2 if all three are split into heads as above, 1 otherwise.
    """
    if axis == 2:
        return q, k, v
    width = q.shape[2] // heads
    q, k, v = (tensor.reshape(*tensor.shape[:2], -1, width).transpose(1, 2) for tensor in (q, k, v))
    return q, k, v
