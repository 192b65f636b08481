"""Options with which a pipeline's call encodes its prompt, so that negatives are encoded with the same ones."""

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import Any

from vsf.errors import PromptError
from vsf.families.base.host import CallArguments, EncodingOptions, Original, Pipeline
from vsf.patching.swaps import owner_of, swap_class
from vsf.text.embeddings import Negative

_HANDED_ON = ("clip_skip", "text_encoder_out_layers", "clean_caption", "skip_text_cleaning")
"""Arguments that calls hand on to `encode_prompt` under the same name, and that change how a prompt is encoded."""

_CLEANING = ("clean_caption", "skip_text_cleaning")
"""Those of them that change the text before a tokenizer reads it; the others concern the encoders alone."""

_SCALE = "lora_scale"
"""The weight of LoRAs in the text encoders, which calls take out of `cross_attention_kwargs={"scale": ...}`."""


def encoding_options(pipe: Pipeline, arguments: CallArguments) -> dict[str, Any]:
    """Return the options of `encode_prompt` that a call of the pipeline with these arguments encodes its prompt with.

    Arguments left out have the call's own defaults. Options without effect are left out: those that are None, and the
    weight of LoRAs where the text encoders hold none.
    """
    names = _option_names(pipe)
    defaults = inspect.signature(type(pipe).__call__).parameters
    options = {name: arguments.get(name, defaults[name].default) for name in _HANDED_ON if name in names}
    if _SCALE in names:
        options[_SCALE] = _lora_scale(arguments)
    return _with_effect(pipe, options)


def chosen_options(pipe: Pipeline, chosen: EncodingOptions) -> dict[str, Any]:
    """Return the options to encode with before a call: those chosen, and the call's defaults for the others.

    Raises:
        PromptError: calls of this pipeline encode their prompts without such an option.
    """
    names = _option_names(pipe)
    for name in chosen:
        if name not in names:
            accepted = ", ".join(names) or "no option"
            raise PromptError(f"{type(pipe).__name__} reads its prompt with {accepted}, not with {name}=: leave it out")
    return _with_effect(pipe, {**encoding_options(pipe, {}), **chosen})


def check_read_alike(pipe: Pipeline, negative: Negative, arguments: CallArguments) -> None:
    """Check that a call encodes its prompt with the options that the negative was encoded with.

    Nothing is checked where prompt or negative came as embeddings, which do not say how they were made.

    Raises:
        PromptError: the options differ.
    """
    if negative.options is None or arguments.get("prompt") is None or not any(negative.lengths):
        return
    of_call = encoding_options(pipe, arguments)
    names = _option_names(pipe)
    if not hasattr(type(pipe), "encode_prompt"):
        # A modular pipeline, whose blocks have defaults that are not known here: only what the call gives is compared.
        of_call = _with_effect(pipe, {name: arguments.get(name) for name in _HANDED_ON})
        names = list(of_call)
    differing = [name for name in names if negative.options.get(name) != of_call.get(name)]
    if differing:
        prompt_options = ", ".join(f"{name}={of_call.get(name)!r}" for name in differing)
        negative_options = ", ".join(f"{name}={negative.options.get(name)!r}" for name in differing)
        raise PromptError(
            f"this call reads its prompt with {prompt_options}, but the negative prompt was read with "
            f"{negative_options}: give vsf.guide, or vsf.encode, {prompt_options}"
        )


@contextmanager
def read_with(pipe: Pipeline, options: EncodingOptions) -> Iterator[None]:
    """Call the pipeline's `encode_prompt` with these options while a block runs, whoever calls it."""
    if not options:
        yield
        return

    def encode_prompt(original: Original, pipe: Pipeline, *args: Any, **kwargs: Any) -> Any:
        return original(pipe, *args, **{**kwargs, **options})

    undo = swap_class(pipe, {"encode_prompt": encode_prompt}, owner=owner_of(pipe))
    try:
        yield
    finally:
        undo()


def tokenized_with(pipe: Pipeline, options: EncodingOptions) -> AbstractContextManager[None]:
    """Do the same with only those options that decide which tokens a text becomes.

    For calls of `encode_prompt` that are cut short at the tokenizer: it weighs LoRAs before that, and undoes it only at
    its end, so that their weight would stay.
    """
    return read_with(pipe, {name: value for name, value in options.items() if name in _CLEANING})


def _option_names(pipe: Pipeline) -> list[str]:
    """Return the options that the pipeline's `encode_prompt` accepts and its call hands on.

    Not every pipeline with such an argument hands it on: some use `cross_attention_kwargs` for the denoiser alone. The
    keywords that a function calls others with are found among the constants of its code.
    """
    encode = getattr(type(pipe), "encode_prompt", None)
    if encode is None:
        return []
    accepted = inspect.signature(encode).parameters
    code = inspect.unwrap(type(pipe).__call__).__code__
    keywords: set[str] = set()
    for constant in code.co_consts:
        if isinstance(constant, tuple):
            keywords.update(constant)
    return [name for name in (*_HANDED_ON, _SCALE) if name in accepted and name in keywords]


def _lora_scale(arguments: CallArguments) -> float | None:
    """Return the weight of LoRAs among a call's arguments, None where there is none."""
    for name, value in arguments.items():
        if name.endswith("attention_kwargs") and value is not None:
            return value.get("scale")
    return None


def _with_effect(pipe: Pipeline, options: EncodingOptions) -> dict[str, Any]:
    """Leave out options without effect, and write lists as tuples, so that equal options compare equal."""
    effective = {}
    for name, value in options.items():
        if value is not None:
            effective[name] = tuple(value) if isinstance(value, list) else value
    if _SCALE in effective and (effective[_SCALE] == 1 or not _has_text_lora(pipe)):
        del effective[_SCALE]
    return effective


def _has_text_lora(pipe: Pipeline) -> bool:
    """Return whether a text encoder holds layers that `lora_scale` weighs, by the same test as in diffusers."""
    encoders = [part for name, part in pipe.components.items() if name.startswith("text_encoder") and part is not None]
    modules = chain.from_iterable(encoder.modules() for encoder in encoders)
    return any(hasattr(module, "scale_layer") for module in modules)
