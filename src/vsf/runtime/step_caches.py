"""Keeps step caches of diffusers from repeating a guided step in an unguided one, or the other way round."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from vsf.errors import KnobError


class StepCaches:
    """Follows the calls of one denoiser, and resets its caches where guidance begins or ends.

    A cached step was computed either with the negatives among the text or without them, and must not be repeated in a
    call of the other kind. Most caches keep their state by the name that `cache_context` gives a call ("cond",
    "uncond"); the others have one for all calls.
    """

    def __init__(self) -> None:
        self._was_guided: dict[str | None, bool] = {}
        self._latest_was_guided = False

    def follow(self, denoiser: nn.Module, name: str | None, *, guided: bool) -> None:
        """Note a call before it is made.

        Args:
            denoiser: the model, whose caches may have been enabled since the last call.
            name: the name that `cache_context` gives it, None for none.
            guided: whether the call is guided.

        Raises:
            KnobError: a cache cannot be reset, or cannot work in a guided call.
        """
        changed = self._latest_was_guided != guided
        changed_for_name = self._was_guided.get(name, False) != guided
        self._latest_was_guided = guided
        self._was_guided[name] = guided
        if not (changed or changed_for_name):
            return
        for module, hook in _caches(denoiser):
            if guided:
                _require_whole_rows(hook)
            managers = _state_managers(hook)
            if not managers and changed:
                _require_restart(hook)
                hook.reset_state(module)
            if changed_for_name:
                for manager in managers:
                    _drop_state(manager)

    def end(self, denoiser: nn.Module) -> None:
        """Reset the caches after a run in which some call was guided."""
        if any(self._was_guided.values()):
            for module, hook in _caches(denoiser):
                hook.reset_state(module)
        self._was_guided.clear()
        self._latest_was_guided = False


def _caches(denoiser: nn.Module) -> Iterator[tuple[nn.Module, Any]]:
    """Yield the module and the hook of every cache: hooks that keep a state from step to step."""
    for module in denoiser.modules():
        registry = vars(module).get("_diffusers_hook")
        if registry is None:
            continue
        for hook in list(registry.hooks.values()):
            if hook._is_stateful:
                yield module, hook


def _state_managers(hook: object) -> list[Any]:
    """Return the diffusers state managers of a hook, which keep its states by the names of the calls."""
    return [value for value in vars(hook).values() if hasattr(value, "_state_cache")]


def _drop_state(manager: Any) -> None:
    """Drop the state of the call in progress, all states where calls have no names."""
    if manager._context is None:
        manager._state_cache.clear()
        return
    old = manager._state_cache.pop(manager._context.name, None)
    if hasattr(old, "step_index"):  # MagCache has a ratio for every step of the run, so it must go on counting
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
