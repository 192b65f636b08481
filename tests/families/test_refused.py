"""Pipelines whose denoiser is guided elsewhere, and which are refused before they run."""

from functools import partial

import diffusers
import pytest

import vsf
from families import tiny_beside as beside
from families import tiny_kandinsky5 as kandinsky5
from families import tiny_masked as masked
from families import tiny_unet as unets
from families.tiny_unet_pipelines import controlled, controlnet_xl, remade

MODELS = {
    "HunyuanVideoImageToVideoPipeline": beside.hunyuan_video,
    "ZImageOmniPipeline": beside.zimage,
    "Kandinsky5I2IPipeline": kandinsky5.transformer,
}


@pytest.mark.parametrize("name", MODELS)
def test_pipelines_that_cannot_be_guided_are_refused_by_name(name):
    assert hasattr(diffusers, name)
    with pytest.raises(vsf.UnsupportedPipelineError, match=f"{name} cannot be guided: it"):
        vsf.attach(type(name, (), {"components": {"transformer": MODELS[name]()}})())


PERTURBED = {
    "StableDiffusionPAGPipeline": partial(remade, unets.pipeline),
    "StableDiffusionXLPAGPipeline": partial(remade, unets.pipeline_xl),
    "StableDiffusionXLControlNetPAGPipeline": partial(controlled, unets.pipeline_xl, control=controlnet_xl),
    "AnimateDiffPAGPipeline": partial(remade, unets.animatediff),
    "PixArtSigmaPAGPipeline": partial(remade, masked.pixart_pipeline),
    "SanaPAGPipeline": partial(remade, masked.sana_pipeline),
}


@pytest.mark.parametrize("name", PERTURBED)
def test_perturbed_attention_is_refused(name):
    pipe = PERTURBED[name](name)
    with pytest.raises(vsf.UnsupportedPipelineError, match="perturbed attention"), vsf.guide(pipe, "wheels"):
        pass
