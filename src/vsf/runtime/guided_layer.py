"""One guided attention layer: which of its attention calls sees the text, and whether there was exactly one."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vsf.errors import NotGuidedError, UnsupportedAttentionError
from vsf.hosting import GuidedCall, Role
from vsf.patching.function_modes import keeps_each_token

_TEXT_VALUES = ("to_v", "to_kv", "to_value")
"""What layers that attend to a text alone call the projection that makes its values, or its keys and values."""

_CANNOT_FOLLOW = ("is_causal", "dropout_p", "parallel_config")
"""Options of attention functions that make a guided call something else."""


class Host(Protocol):
    """The denoiser a layer belongs to."""

    def guided_call(self) -> GuidedCall | None:
        """Return what the guided denoiser call that this thread makes does to its attention layers."""
        ...


class GuidedLayer:
    """Stands in for the attention function of a layer, or in compiled code, which cannot count, of all of one role.

    A layer's module may attend several times, to the tokens of an image adapter for one. The call that sees the text is
    the one of its size whose values were made from the text, which the projection in the module's own hands tells.
    """

    def __init__(self, host: Host, name: str | None, role: Role) -> None:
        self.host, self.name, self.role = host, name, role
        self._made: list[Tensor] = []
        self._taken: int | None = None

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, options: Mapping[str, Any]) -> Tensor | None:
        """Guide the attention call if it is the one that sees the text; None leaves it to the host."""
        guided = self.host.guided_call()
        if guided is None or not guided.sees_text(self.role, query.shape[2], key.shape[2]):
            return None
        if not torch.compiler.is_compiling() and self.name is not None and not self._takes(query, key, value):
            return None
        for option in _CANNOT_FOLLOW:
            if options.get(option):
                raise UnsupportedAttentionError(f"the model attends with {option}, which guidance cannot follow")
        bias, scale, own = options.get("attn_mask"), options.get("scale"), options.get("host")
        return guided.attend(self.role, query, key, value, bias=bias, scale=scale, name=self.name, host=own)

    def listen(self, module: nn.Module) -> list[Callable[[], None]]:
        """Note what the projections of the text make from now on; returns what ends that.

        They are looked up anew for each denoiser call, because loading a LoRA or fusing replaces them.
        """
        if self.role.kind != "cross":
            return []
        makers = [getattr(module, name) for name in _TEXT_VALUES if isinstance(getattr(module, name, None), nn.Module)]
        return [maker.register_forward_hook(self._note).remove for maker in makers]

    def _note(self, maker: nn.Module, args: Any, made: Any) -> None:
        del maker, args
        if self.host.guided_call() is not None:
            self._made.append(made)

    def around(self, call: Callable[[], Any]) -> Any:
        """Make the module's call. Raises NotGuidedError unless its text was attended to where guidance stands in."""
        if self.host.guided_call() is None or torch.compiler.is_compiling():
            return call()  # compiled code cannot count
        self._made.clear()
        self._taken = None
        try:
            output = call()
            if self._taken is None:
                raise NotGuidedError(
                    f"attention layer {self.name} ran and was not guided: its processor did not attend to all of image "
                    "and text in one call of the function that guidance stands in for, so that the negative would have "
                    "been a part of the prompt. Set the model's default processor instead"
                )
            return output
        finally:
            self._made.clear()

    def _takes(self, query: Tensor, key: Tensor, value: Tensor) -> bool:
        """Tell whether this call sees the text. Raises UnsupportedAttentionError for a second one that does."""
        if self._made and not any(_is_part(value, made) for made in self._made):
            return False
        if self._taken is not None and key.shape[2] < self._taken and not self._made:
            return False  # an adapter's tokens, fewer than image and text together
        if self._taken is not None:
            raise UnsupportedAttentionError(
                f"attention layer {self.name} attends more than once to a sequence as long as the one with the text, "
                "in pieces or to something else, so that it cannot be guided. Set the model's default processor instead"
            )
        self._taken = key.shape[2]
        return not keeps_each_token(query, key)


def _is_part(value: Tensor, made: Tensor) -> bool:
    """Whether values are those a projection made: in the same memory, or copied, maybe with keys in front."""
    if value.untyped_storage().data_ptr() == made.untyped_storage().data_ptr():
        return True
    flat = value.transpose(1, 2).flatten(2)
    return flat.shape[:2] == made.shape[:2] and torch.equal(flat, made[..., -flat.shape[2] :].to(flat.dtype))
