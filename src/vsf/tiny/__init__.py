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
    """Return the folder of an embedded model, an ordinary diffusers folder.

    Raises:
        UnknownNameError: No embedded model has this name.
    """
    MODELS[name]  # raises
    return Path(__file__).with_name("weights") / name


def load(name: str = "tiny") -> StableDiffusion3Pipeline:
    """Load an embedded model as a pipeline in float32 on the CPU.

    Raises:
        UnknownNameError: No embedded model has this name.
        MissingExtraError: Diffusers or transformers is not installed.
    """
    return read(folder(name))


def read(path: Path) -> StableDiffusion3Pipeline:
    """Read a saved pipeline of the embedded models' shape, SD3 without its third encoder, in float32.

    Raises:
        MissingExtraError: Diffusers or transformers is not installed.
    """
    import torch

    with needs_extra("diffusers"):
        import transformers  # noqa: F401 - without it diffusers offers its pipelines, but they raise when used
        from diffusers import StableDiffusion3Pipeline
        from diffusers.utils import logging

    absent = {"text_encoder_3": None, "tokenizer_3": None}  # diffusers wants them passed explicitly
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # diffusers would warn that SD3 was published with another kind of autoencoder
    try:
        return StableDiffusion3Pipeline.from_pretrained(
            path, dtype=torch.float32, use_safetensors=True, local_files_only=True, **absent
        )
    finally:
        logging.set_verbosity(verbosity)


def vocabulary() -> frozenset[str]:
    """Return every word that the embedded models were trained on."""
    from vsf.tiny.words import WORDS

    return frozenset(WORDS)
