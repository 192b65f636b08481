"""The embedded text-to-image models: small enough to ship, real enough to test guidance on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vsf.extras import needs_extra
from vsf.registry import Registry

if TYPE_CHECKING:
    from diffusers import StableDiffusion3Pipeline

MODELS: Registry[str] = Registry(
    "embedded model",
    {
        "tiny": "few steps, no classifier-free guidance",
        "tiny-base": "its teacher: 28 steps, classifier-free guidance of about 4",
    },
)


def folder(name: str = "tiny") -> Path:
    """The ordinary diffusers folder of an embedded model.

    Raises:
        UnknownNameError: no embedded model has this name.
    """
    MODELS[name]
    return Path(__file__).with_name("weights") / name


def load(name: str = "tiny") -> StableDiffusion3Pipeline:
    """Load an embedded model as a pipeline in float32 on the CPU.

    Raises:
        UnknownNameError: no embedded model has this name.
        MissingExtraError: diffusers or transformers is not installed.
    """
    return read(folder(name))


def read(path: Path) -> StableDiffusion3Pipeline:
    """A saved pipeline of the embedded kind in float32: SD3 without its third encoder, which diffusers wants named."""
    import torch

    with needs_extra("diffusers"):
        import transformers  # noqa: F401 - without it diffusers' pipelines are there, but only raise
        from diffusers import StableDiffusion3Pipeline
        from diffusers.utils import logging

    absent = {"text_encoder_3": None, "tokenizer_3": None}
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it would warn that this small autoencoder is not the kind SD3 was published with
    try:
        return StableDiffusion3Pipeline.from_pretrained(
            path, dtype=torch.float32, use_safetensors=True, local_files_only=True, **absent
        )
    finally:
        logging.set_verbosity(verbosity)


def vocabulary() -> frozenset[str]:
    """Every word that the embedded models were trained on."""
    from vsf.tiny.words import WORDS

    return frozenset(WORDS)
