"""Kolors: the U-Net of Stable Diffusion XL with the text of a language model."""

import torch
from torch import nn

from vsf.families.base.family import Encoded, Family, class_names, require_encoders
from vsf.families.base.host import Denoiser, Pipeline
from vsf.families.unet import UNet
from vsf.patching.swaps import calls_swapped
from vsf.text.embeddings import TokenizeUnpadded
from vsf.text.token_weights import Characters


class Kolors(UNet):
    """Kolors. ChatGLM's text is padded in front to 256 tokens, which it does not see, but image tokens attend to."""

    name = "kolors"
    pipelines = ("KolorsPipeline", "KolorsImg2ImgPipeline")

    def denoisers_of(self, target: Pipeline | Denoiser) -> list[nn.Module]:
        """Return the U-Net of a Kolors pipeline; a U-Net on its own cannot be told from any other."""
        is_kolors = any(name.startswith("Kolors") for name in class_names(target))
        return super().denoisers_of(target) if is_kolors else []

    def encode(self, pipe: Pipeline, text: str) -> Encoded:
        """Return the rows of ChatGLM; the marks stand in front."""
        require_encoders(pipe, "text_encoder", "tokenizer")
        with torch.no_grad(), calls_swapped([(pipe.tokenizer, TokenizeUnpadded())]):
            embeddings, *_ = pipe.encode_prompt(text, do_classifier_free_guidance=False)
        ranks = torch.arange(embeddings.shape[1], device=embeddings.device)
        return Encoded(embeddings[0], ranks < len(pipe.tokenizer.get_prefix_tokens()))

    def characters(self, pipe: Pipeline, text: str) -> Characters:
        """Raise KnobError: ChatGLM's tokenizer does not tell where its tokens stand in a text."""
        return Family.characters(self, pipe, text)
