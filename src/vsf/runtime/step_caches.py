"""Step caches of diffusers: what they keep of a guided step is not used in an unguided one, nor the other way round."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from vsf.errors import KnobError


class StepCaches:
    """Follows the calls of one denoiser, and lets its caches start anew where guidance begins or ends.

    What a cached step would repeat was made with the negatives among the text, or without. Most caches keep their state
    by the name that `cache_context` gives a call ("cond", "uncond"), the others have one for all calls.
    """

    def __init__(self) -> None:
        self._was_guided: dict[str | None, bool] = {}
        self._latest_was_guided = False

    def follow(self, denoiser: nn.Module, name: str | None, *, guided: bool) -> None:
        """Note a call, named or not. Raises KnobError for a cache that cannot start anew, or work guided at all."""
        turns, named_turns = self._latest_was_guided != guided, self._was_guided.get(name, False) != guided
        self._latest_was_guided = self._was_guided[name] = guided
        if not (turns or named_turns):
            return
        for module, hook in _caches(denoiser):
            if guided:
                _require_whole_rows(hook)
            managers = _managers(hook)
            if not managers and turns:
                _require_restart(hook)
                hook.reset_state(module)
            for manager in managers if named_turns else ():
                _drop(manager)

    def end(self, denoiser: nn.Module) -> None:
        """Leave nothing of a guided step behind."""
        if any(self._was_guided.values()):
            for module, hook in _caches(denoiser):
                hook.reset_state(module)
        self._was_guided.clear()
        self._latest_was_guided = False


def _caches(denoiser: nn.Module) -> Iterator[tuple[nn.Module, Any]]:
    """Yield the hooks that keep something from step to step, and the module of each."""
    for module in denoiser.modules():
        registry = vars(module).get("_diffusers_hook")
        for hook in () if registry is None else list(registry.hooks.values()):
            if hook._is_stateful:
                yield module, hook


def _managers(hook: Any) -> list[Any]:
    """Return what keeps a hook's states by the names of the calls."""
    return [value for value in vars(hook).values() if hasattr(value, "_state_cache")]


def _drop(manager: Any) -> None:
    """Drop the state of the call in progress; MagCache goes on counting steps, for which it has ratios."""
    if manager._context is None:
        manager._state_cache.clear()
        return
    old = manager._state_cache.pop(manager._context.name, None)
    if hasattr(old, "step_index"):
        manager.get_state().step_index = old.step_index


def _require_whole_rows(hook: Any) -> None:
    if type(hook).__name__ == "FasterCacheDenoiserHook" and not hook.is_guidance_distilled:
        raise KnobError(
            "FasterCache leaves out the unconditional rows inside of the denoiser, where guidance cannot follow: call "
            "disable_cache(), or use another cache"
        )


def _require_restart(hook: Any) -> None:
    if type(hook).__name__ == "FasterCacheBlockHook" and hook.is_guidance_distilled and hook.state.iteration:
        raise KnobError(
            "FasterCache cannot start anew within a run, where the schedule begins or ends guidance: leave start, end "
            "and curve out, call disable_cache(), or use another cache"
        )
