"""How a pipeline's call reads its prompt, so that its negatives are read alike."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from vsf.errors import PromptError
from vsf.patching.swaps import owner_of, swap_class
from vsf.text.embeddings import Negative

_AS_GIVEN = ("clip_skip", "text_encoder_out_layers", "clean_caption", "skip_text_cleaning")
"""Arguments that calls hand on to `encode_prompt` under the same name, and that change how the same words are read."""

_CLEANING = ("clean_caption", "skip_text_cleaning")
"""Those of them that change the text before a tokenizer reads it; the others concern the encoders alone."""

_SCALE = "lora_scale"
"""The weight of LoRAs in the text encoders, which calls take out of `cross_attention_kwargs={"scale": ...}`."""


def encoding_options(pipe: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a call of the pipeline with these arguments reads its prompt, as options of its `encode_prompt`.

    Arguments left out have the call's own defaults. What changes nothing is left out: None, and the weight of LoRAs
    where the text encoders hold none.
    """
    names = _option_names(pipe)
    defaults = inspect.signature(type(pipe).__call__).parameters
    options = {name: arguments.get(name, defaults[name].default) for name in _AS_GIVEN if name in names}
    if _SCALE in names:
        options[_SCALE] = _lora_scale(arguments)
    return _effective(pipe, options)


def chosen_options(pipe: Any, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options to encode with before a call: the ones chosen, and the call's defaults for the others.

    Raises:
        PromptError: calls of this pipeline read their prompts without such an option.
    """
    names = _option_names(pipe)
    for name in chosen:
        if name not in names:
            known = ", ".join(names) or "no option"
            raise PromptError(f"{type(pipe).__name__} reads its prompt with {known}, not with {name}=: leave it out")
    return _effective(pipe, {**encoding_options(pipe, {}), **chosen})


def check_read_alike(pipe: Any, negative: Negative, arguments: Mapping[str, Any]) -> None:
    """Raise PromptError when a call reads its prompt with other options than the negative was encoded with.

    Embeddings of either side say nothing about how they were made, so nothing is checked then.
    """
    if negative.options is None or arguments.get("prompt") is None or not any(negative.lengths):
        return
    called = encoding_options(pipe, arguments)
    differing = [name for name in _option_names(pipe) if negative.options.get(name) != called.get(name)]
    if differing:
        wanted = ", ".join(f"{name}={called.get(name)!r}" for name in differing)
        present = ", ".join(f"{name}={negative.options.get(name)!r}" for name in differing)
        raise PromptError(
            f"this call reads its prompt with {wanted}, but the negative prompt was read with {present}: "
            f"give vsf.guide, or vsf.encode, {wanted}"
        )


@contextmanager
def read_with(pipe: Any, options: Mapping[str, Any]) -> Iterator[None]:
    """Let the pipeline's `encode_prompt` have these options while a block runs, whatever else it is called with."""
    if not options:
        yield
        return

    def encode_prompt(original: Any, pipe: Any, *args: Any, **kwargs: Any) -> Any:
        return original(pipe, *args, **{**kwargs, **options})

    undo = swap_class(pipe, {"encode_prompt": encode_prompt}, owner=owner_of(pipe))
    try:
        yield
    finally:
        undo()


def tokenized_with(pipe: Any, options: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Do the same with the options that decide which tokens a text becomes.

    For calls of `encode_prompt` that are cut short there: it weighs LoRAs first, and takes that back only at its end.
    """
    return read_with(pipe, {name: value for name, value in options.items() if name in _CLEANING})


def _option_names(pipe: Any) -> list[str]:
    """Return the options that both the pipeline's `encode_prompt` takes and its call hands on.

    Not every pipeline with such an argument does: some use `cross_attention_kwargs` for the denoiser alone. Which
    names a function calls others with is written in the constants of its code.
    """
    encode = getattr(type(pipe), "encode_prompt", None)
    if encode is None:
        return []
    taken = inspect.signature(encode).parameters
    code = inspect.unwrap(type(pipe).__call__).__code__
    keywords = {name for names in code.co_consts if isinstance(names, tuple) for name in names}
    return [name for name in (*_AS_GIVEN, _SCALE) if name in taken and name in keywords]


def _lora_scale(arguments: Mapping[str, Any]) -> Any:
    """Return the weight of LoRAs among a call's arguments, None where there is none."""
    for name, value in arguments.items():
        if name.endswith("attention_kwargs") and value is not None:
            return value.get("scale")
    return None


def _effective(pipe: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what changes nothing, and bring equal options to one form."""
    kept = {name: value for name, value in options.items() if value is not None}
    if _SCALE in kept and (kept[_SCALE] == 1 or not _has_text_lora(pipe)):
        del kept[_SCALE]
    return {name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()}


def _has_text_lora(pipe: Any) -> bool:
    """Whether a text encoder holds layers that `lora_scale` weighs: those that can be scaled, as diffusers asks."""
    encoders = [part for name, part in pipe.components.items() if name.startswith("text_encoder") and part is not None]
    return any(hasattr(module, "scale_layer") for encoder in encoders for module in encoder.modules())
