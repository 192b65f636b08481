"""Presets are settings that their methods take, with where they come from, and nothing stands in for a missing one."""

import math

import pytest

from vsf.errors import UnknownNameError
from vsf.families import FAMILIES
from vsf.families.catalogue import presets
from vsf.guidance import method
from vsf.tiny import MODELS

ALL = [(owner, preset) for owner, known in presets.PRESETS.items() for preset in known]


@pytest.mark.parametrize(("owner", "preset"), ALL, ids=lambda value: getattr(value, "name", value))
def test_every_preset_is_one_that_its_method_takes_and_says_where_it_is_from(owner, preset):
    assert method(preset.method, **preset.knobs).name == preset.method
    assert preset.provenance in ("paper", "converted", "tuned on tiny", "untested")
    assert preset.source
    assert (preset.provenance == "tuned on tiny") == (owner == "tiny")
    assert presets.find(owner, preset.method, preset.name) is preset


def test_no_preset_stands_twice():
    keys = [(owner, preset.method, preset.name) for owner, preset in ALL]
    assert len(keys) == len(set(keys))


def test_the_strong_preset_of_a_method_is_another_than_the_quality_one():
    for owner in presets.PRESETS:
        mild, strong = (presets.find(owner, "vsf", name) for name in ("quality", "strong"))
        assert mild.knobs != strong.knobs


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_presets_and_guesses_rest_on_families_of_its_kind(family):
    found = [presets.find(family, "vsf", name) for name in ("quality", "strong")]
    if {preset.provenance for preset in found} != {"untested"}:
        assert family in ("sd3", "flux", "wan")
        return
    joins = any(role.kind == "joint" for _, role in FAMILIES[family].roles)
    published = ("sd3", "flux") if joins else ("wan",)
    scales = [presets.find(other, "vsf", name).knobs["scale"] for other in published for name in ("quality", "strong")]
    assert all(min(scales) <= preset.knobs["scale"] <= max(scales) for preset in found)
    assert all("nothing was published" in preset.source for preset in found)


def test_the_settings_of_the_authors_code_are_brought_to_the_paper_layout():
    """(3, .08) and (3.8, .2): with d = e^-o, alpha = (s d - 1) / (1 + d), beta = -ln(1 + d)."""
    for name, scale, offset in (("quality", 3.0, 0.08), ("strong", 3.8, 0.2)):
        decay = 2.718281828459045**-offset
        knobs = presets.find("sd3", "vsf", name).knobs
        assert knobs["scale"] == pytest.approx((scale * decay - 1) / (1 + decay), abs=5e-4)
        assert knobs["offset"] == pytest.approx(-math.log(1 + decay), abs=5e-4)


def test_the_baselines_of_the_paper_are_those_of_their_methods():
    assert dict(presets.find("sd3", "nag", "strong").knobs) == {"scale": 9.0, "tau": 5.0, "alpha": 0.5}
    assert dict(presets.find("sd3", "nasa", "quality").knobs) == {"scale": 0.25}


@pytest.mark.parametrize(
    ("owner", "name", "words"),
    [
        ("sd3", "strongest", 'unknown preset "strongest". Known: quality, strong'),
        ("sd3", "strong", 'sd3 has no preset "strong" for the method ong. It has: quality (vsf), strong (vsf)'),
        ("ltx", "strong", 'ltx has no preset "strong" for the method ong. It has: quality (vsf), strong (vsf).'),
        ("unheard", "strong", "unheard has no presets. With presets: tiny, sd3,"),
    ],
)
def test_a_preset_that_does_not_exist_is_refused_with_those_that_do(owner, name, words):
    with pytest.raises(UnknownNameError) as caught:
        presets.find(owner, "ong", name)
    assert words in str(caught.value)


def test_presets_cannot_be_changed_in_place():
    with pytest.raises(TypeError):
        presets.find("sd3", "vsf", "quality").knobs["scale"] = 9.0


def test_presets_belong_to_families_and_embedded_models_that_exist():
    assert set(FAMILIES) <= set(presets.PRESETS) <= {*FAMILIES, *MODELS}
