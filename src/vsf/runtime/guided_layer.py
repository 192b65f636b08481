"""One guided attention layer: finds the attention call that sees the text, and makes sure that there is exactly one."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from vsf.errors import NotGuidedError, UnsupportedAttentionError
from vsf.hosting import GuidedCall, Role
from vsf.patching.function_modes import keeps_each_token
from vsf.patching.hosts import CallArguments

_TEXT_VALUES = ("to_v", "to_kv", "to_value")
"""Names of the projection that makes a cross-attention layer's values, or its keys and values, of the text."""

_CANNOT_FOLLOW = ("dropout_p", "parallel_config")
"""Options of attention functions that a guided call cannot reproduce."""


class Host(Protocol):
    """The denoiser a layer belongs to."""

    def guided_call(self) -> GuidedCall | None:
        """Return the object that guides the layers in this thread's denoiser call, None for an unguided call."""
        ...


class GuidedLayer:
    """Stands in for the attention function of one layer, or in compiled code, which cannot count, of all with one role.

    A layer may attend several times: to the tokens of an image adapter, for one. The call that sees the text is the one
    of its size whose values were projected from the text; forward hooks on the projections tell.
    """

    def __init__(self, host: Host, name: str | None, role: Role) -> None:
        """Take the denoiser, the layer's name (None for all layers of the role), and how it attends."""
        self.host = host
        self.name = name
        self.role = role
        self._text_values: list[Tensor] = []
        self._guided_keys: int | None = None

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, options: CallArguments) -> Tensor | None:
        """Guide an attention call if it is the one that sees the text.

        Args:
            query: (batch, heads, queries, channels).
            key: (batch, heads, keys, channels).
            value: as the keys.
            options: keyword arguments of the host's attention function; `host` holds its backend.

        Returns:
            The attention output, None to leave the call to the host.

        Raises:
            UnsupportedAttentionError: the layer attends in a way that guidance cannot follow.
        """
        guided = self.host.guided_call()
        if guided is None or not guided.sees_text(self.role, query.shape[2], key.shape[2]):
            return None
        if (
            not torch.compiler.is_compiling()
            and self.name is not None
            and not self._is_guided(guided, query, key, value)
        ):
            return None
        for option in _CANNOT_FOLLOW:
            if options.get(option):
                raise UnsupportedAttentionError(f"the model attends with {option}, which guidance cannot follow")
        bias = options.get("attn_mask")
        causal = bool(options.get("is_causal"))
        if causal and (self.role.kind != "text" or bias is not None):
            raise UnsupportedAttentionError(
                "the model attends with is_causal to more than text, or with a mask as well"
            )
        return guided.attend(
            self.role,
            query,
            key,
            value,
            bias=bias,
            scale=options.get("scale"),
            causal=causal,
            name=self.name,
            host=options.get("host"),
        )

    def listen(self, module: nn.Module) -> list[Callable[[], None]]:
        """Note from now on the values that a cross-attention layer makes of the text; return functions that end that.

        The projections are looked up anew for each denoiser call, because loading a LoRA or fusing replaces them.
        """
        if self.role.kind != "cross":
            return []
        stops = []
        for name in _TEXT_VALUES:
            projection = getattr(module, name, None)
            if isinstance(projection, nn.Module):
                stops.append(projection.register_forward_hook(self._note).remove)
        return stops

    def _note(self, projection: nn.Module, args: object, output: Tensor) -> None:
        del projection, args
        if self.host.guided_call() is not None:
            self._text_values.append(output)

    def around(self, call: Callable[[], object]) -> object:
        """Make the layer's own call, and check that its text was attended to through this object.

        Raises:
            NotGuidedError: the layer ran without that. The negatives in its text would have acted as a part of the
                prompt.
        """
        if self.host.guided_call() is None or torch.compiler.is_compiling():
            return call()  # compiled code cannot count
        self._text_values.clear()
        self._guided_keys = None
        try:
            output = call()
            if self._guided_keys is None:
                raise NotGuidedError(
                    f"attention layer {self.name} ran and was not guided: its processor did not attend to all of image "
                    "and text in one call of the function that guidance stands in for, so that the negative would have "
                    "been a part of the prompt. Set the model's default processor instead"
                )
            return output
        finally:
            self._text_values.clear()

    def _is_guided(self, guided: GuidedCall, query: Tensor, key: Tensor, value: Tensor) -> bool:
        """Tell whether this attention call is the one to guide.

        Raises:
            UnsupportedAttentionError: it is the second one in the layer that sees the text.
        """
        if not guided.knows_sizes and not self._holds_text(value):
            return False
        if self._guided_keys is not None and key.shape[2] < self._guided_keys and not self._text_values:
            return False  # the tokens of an image adapter, fewer than image and text together
        if self._guided_keys is not None:
            raise UnsupportedAttentionError(
                f"attention layer {self.name} attends more than once to a sequence as long as the one with the text, "
                "in pieces or to something else, so that it cannot be guided. Set the model's default processor instead"
            )
        self._guided_keys = key.shape[2]
        return not keeps_each_token(query, key)

    def _holds_text(self, value: Tensor) -> bool:
        """Tell whether an attention call's values may be the text's: they are where no projection was seen."""
        return not self._text_values or any(_is_part(value, projected) for projected in self._text_values)


def _is_part(value: Tensor, projected: Tensor) -> bool:
    """Tell whether an attention call's values, (batch, heads, tokens, channels), are those that a projection made.

    They share its memory, or are a copy of its last channels: a projection for keys and values puts the keys in front.
    In a copy each head may stand several times, where several of the queries' heads share it.
    """
    if value.untyped_storage().data_ptr() == projected.untyped_storage().data_ptr():
        return True
    copies, remainder = divmod(value.shape[1] * value.shape[3], projected.shape[2])
    if copies > 1 and not remainder:
        value = value[:, ::copies]
    flat = value.transpose(1, 2).flatten(2)
    return flat.shape[:2] == projected.shape[:2] and torch.equal(flat, projected[..., -flat.shape[2] :].to(flat.dtype))
