"""Pipelines whose denoiser is guided elsewhere, and which are refused before they run."""

import inspect
import re
from functools import partial

import diffusers
import pytest
from torch import nn

import vsf
from families.models import tiny_masked as masked
from families.models import tiny_unet as unets
from families.models.tiny_unet_pipelines import controlled, controlnet_xl, remade
from vsf.families import FAMILIES
from vsf.families.catalogue.unsupported import UNSUPPORTED_PIPELINES, unsupported_reason

DENOISERS = {denoiser for family in FAMILIES.values() for denoiser in family.denoisers}
RUN = {pipeline for family in FAMILIES.values() for pipeline in family.pipelines}


def hosted():
    """Yield each pipeline class of diffusers that takes a denoiser which a family guides, with the denoiser's name."""
    for name in dir(diffusers):
        if "Pipeline" in name and inspect.isclass(cls := getattr(diffusers, name)):
            words = set(re.findall(r"\w+", str(inspect.signature(cls.__init__))))
            yield from ((cls, denoiser) for denoiser in sorted(words & DENOISERS)[:1])


HOSTED = dict(hosted())


def runs(cls):
    """Whether the tests run it, or what it is only another name of."""
    return any(base.__name__ in RUN for base in cls.__mro__)


def test_every_pipeline_with_a_denoiser_of_a_family_is_run_in_the_tests_or_refused_by_name():
    assert [cls.__name__ for cls in HOSTED if not runs(cls) and not unsupported_reason(cls)] == []


def test_no_pipeline_is_both_run_in_the_tests_and_refused():
    assert [cls.__name__ for cls in HOSTED if runs(cls) and unsupported_reason(cls)] == []
    assert not RUN & set(UNSUPPORTED_PIPELINES)


def test_pipelines_that_are_refused_by_name_exist():
    assert set(UNSUPPORTED_PIPELINES) <= {cls.__name__ for cls in HOSTED}


@pytest.mark.parametrize("cls", [cls for cls in HOSTED if unsupported_reason(cls)], ids=lambda cls: cls.__name__)
def test_pipelines_that_cannot_be_guided_are_refused_with_the_reason(cls):
    denoiser = type(HOSTED[cls], (nn.Module,), {})()
    pipe = object.__new__(type(cls.__name__, (cls,), {"components": {"denoiser": denoiser}}))
    with pytest.raises(vsf.UnsupportedPipelineError) as caught:
        vsf.attach(pipe)
    assert str(caught.value) == f"{cls.__name__} cannot be guided: {unsupported_reason(cls)}"


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
