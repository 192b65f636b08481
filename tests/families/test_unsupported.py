"""Every pipeline of diffusers that takes a text is guided, or refused by its name before it runs."""

import inspect
import re
import sys
from functools import cache, partial
from pathlib import Path

import diffusers
import pytest
from torch import nn

import vsf
from families.models import tiny_masked as masked
from families.models import tiny_unet as unets
from families.models.tiny_unet_pipelines import controlled, controlnet_xl, remade
from support import host
from vsf.families import FAMILIES, find_family
from vsf.families.catalogue.unsupported import UNSUPPORTED_DENOISERS, UNSUPPORTED_PIPELINES, unsupported_reason

ROOT = Path(__file__).parents[2]
RUN = {pipeline for family in FAMILIES.values() for pipeline in family.pipelines}
ORDINARY = diffusers.DiffusionPipeline
MODULAR = getattr(diffusers, "ModularPipeline", ())


def pipelines():
    """Every pipeline class that diffusers exports, ordinary or modular."""
    exported = [getattr(diffusers, name) for name in dir(diffusers) if "Pipeline" in name or "Refiner" in name]
    exported.append(host.ConsisIDPipeline)
    classes = [each for each in exported if inspect.isclass(each) and issubclass(each, (ORDINARY, MODULAR))]
    return [each for each in dict.fromkeys(classes) if each not in (ORDINARY, MODULAR)]


@cache
def blocks(cls):
    """The blocks of a modular pipeline, which say what it takes and what it is made of."""
    return cls().blocks


def takes_text(cls):
    if issubclass(cls, MODULAR):
        arguments = [str(given.name) for given in blocks(cls).inputs]
    else:
        arguments = list(inspect.signature(cls.__call__).parameters)
    return any(re.fullmatch("(?!num_).*prompt", name) for name in arguments)


def models(cls):
    """The classes of diffusers' own models that a pipeline is made of."""
    if issubclass(cls, MODULAR):
        hints = [component.type_hint for component in blocks(cls).expected_components]
    else:
        words = re.findall(r"\w+", str(inspect.signature(cls.__init__)))
        hints = [getattr(sys.modules[cls.__module__], word, None) for word in words]
    classes = [hint for hint in hints if inspect.isclass(hint) and issubclass(hint, nn.Module)]
    return [each for each in dict.fromkeys(classes) if each.__module__.startswith("diffusers.")]


def stand_in(cls):
    """A pipeline of this class, whose models have no weights and no configuration."""
    components = {}
    for model in models(cls):
        part = object.__new__(model)
        nn.Module.__init__(part)
        components[model.__name__] = part
    return object.__new__(type(cls.__name__, (cls,), {"components": components}))


def has_family(cls):
    try:
        find_family(stand_in(cls))
    except vsf.UnsupportedPipelineError:
        return False
    return True


def runs(cls):
    """Whether the tests run it, or what it is only another name of."""
    return any(base.__name__ in RUN for base in cls.__mro__)


ALL = pipelines()
WITH_TEXT = [cls for cls in ALL if takes_text(cls)]
WITH_FAMILY = [cls for cls in ALL if has_family(cls)]
GUIDED = [cls for cls in WITH_FAMILY if not unsupported_reason(cls)]
REFUSED = [cls for cls in dict.fromkeys([*WITH_TEXT, *WITH_FAMILY]) if cls not in GUIDED]


@pytest.mark.parametrize("cls", REFUSED, ids=lambda cls: cls.__name__)
def test_a_pipeline_that_cannot_be_guided_is_refused_by_name_with_the_reason(cls):
    reasons = [UNSUPPORTED_DENOISERS.get(model.__name__) for model in models(cls)]
    with pytest.raises(vsf.UnsupportedPipelineError) as caught:
        vsf.attach(stand_in(cls))
    name, _, reason = str(caught.value).partition(" cannot be guided: ")
    assert name == cls.__name__
    assert reason in (unsupported_reason(cls), *reasons)


def test_every_ordinary_pipeline_that_is_guided_is_run_in_the_tests():
    assert [cls.__name__ for cls in GUIDED if issubclass(cls, ORDINARY) and not runs(cls)] == []


def test_every_pipeline_that_is_guided_takes_a_text():
    assert set(GUIDED) <= set(WITH_TEXT)


def test_no_pipeline_is_both_run_in_the_tests_and_refused():
    assert [cls.__name__ for cls in REFUSED if cls.__name__ in RUN] == []
    assert not RUN & set(UNSUPPORTED_PIPELINES)


def test_pipelines_that_are_refused_by_name_exist():
    assert set(UNSUPPORTED_PIPELINES) <= {cls.__name__ for cls in ALL}


def test_a_model_that_diffusers_derives_from_that_of_a_family_is_another_model():
    class Own(diffusers.FluxTransformer2DModel):
        """What a user derives is the same model."""

    class Other(diffusers.FluxTransformer2DModel):
        __module__ = "diffusers.models.transformers.transformer_other"

    told = [FAMILIES["flux"].recognises(object.__new__(cls)) for cls in (Own, Other)]
    assert told == [True, False]


def test_the_documentation_says_how_many_pipelines_are_guided_and_refused():
    pinned = re.search(r"^diffusers==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    if diffusers.__version__ != pinned:
        pytest.skip(f"the page counts the pipelines of diffusers {pinned}")
    guided = len(set(GUIDED) & set(WITH_TEXT))
    counted = (
        f"Of the {len(WITH_TEXT)} pipelines of diffusers {pinned} that take a text, ordinary and modular, {guided} are "
        f"guided and {len(WITH_TEXT) - guided} are refused by name."
    )
    page = " ".join((ROOT / "docs/families.md").read_text().split())
    assert counted in page, f"put this below the table of docs/families.md: {counted}"


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
