"""One way to write methods, in every command."""

import pytest

from vsf.cli import method_grammar
from vsf.errors import KnobError, UnknownNameError
from vsf.generation.metadata import provenance
from vsf.guidance import METHODS, NormalizedAttentionGuidance, method

SPECS = {
    "none": ("none", {}),
    "vsf:scale=2": ("vsf", {"scale": 2.0}),
    "vsf:scale=2,offset=.5": ("vsf", {"scale": 2.0, "offset": 0.5}),
    "vsf:scale=2:offset=.5": ("vsf", {"scale": 2.0, "offset": 0.5}),
    "vsf:scale=auto,orthogonal=TRUE,layout=reference": (
        "vsf",
        {"scale": "auto", "orthogonal": True, "layout": "reference"},
    ),
    "nag++": ("nag", dict(NormalizedAttentionGuidance.PRESETS["nag++"])),
    "nag++:tau=2": ("nag", {**NormalizedAttentionGuidance.PRESETS["nag++"], "tau": 2.0}),
}


@pytest.mark.parametrize(("spec", "expected"), SPECS.items(), ids=SPECS)
def test_a_spec_is_a_method_with_its_knobs(spec, expected):
    name, knobs = expected
    assert method_grammar.parse(spec) == {"method": name, "knobs": knobs}
    method(name, **knobs)


def test_a_preset_is_kept_for_the_model_to_say_what_it_is():
    fields = {"method": "vsf", "knobs": {"scale": 3.0}, "preset": "strong"}
    assert method_grammar.parse("vsf:preset=strong,scale=3") == fields


def test_a_list_keeps_the_knobs_with_their_method():
    assert method_grammar.split("none, vsf:scale=2,offset=.5 ,nag++") == ["none", "vsf:scale=2,offset=.5", "nag++"]
    assert method_grammar.split(["none", "vsf:scale=2,offset=.5"]) == ["none", "vsf:scale=2,offset=.5"]


@pytest.mark.parametrize("name", ["vfs", "", "nag+++", "VSF"])
def test_an_unknown_name_is_answered_with_every_known_one(name):
    with pytest.raises(UnknownNameError) as error:
        method_grammar.parse(name)
    assert all(known_name in str(error.value) for known_name in [*METHODS, "nag++"])


@pytest.mark.parametrize("spec", ["vsf:scale", "vsf:", "vsf:scale=much", "vsf:orthogonal=1"])
def test_a_knob_that_cannot_be_read_is_refused(spec):
    with pytest.raises(KnobError):
        method_grammar.parse(spec)


def test_every_command_reads_the_same(vsf, folder, tmp_path):
    shared = ("--model", folder, "--size", 16)
    words = ("--steps", 1, "--negative", "wheels")
    assert vsf("generate", "a car", *words, "--method", "nag++:tau=2,norm=l2", *shared, "-o", "a.png")[0] == 0
    drawn = provenance.read(tmp_path / "a.png")["knobs"]
    assert (drawn["scale"], drawn["tau"], drawn["norm"]) == (9.0, 2.0, "l2")
    for command in (("compare", "a car", *words), ("bench", "run", "--suite", "tiny-dev", "--out", "runs")):
        code, _, err = vsf(*command, "--methods", "nag++:tau=2,norm=l3", *shared)
        assert (code, "norm is one of 'l1', 'l2'" in " ".join(err.split())) == (2, True), err


def test_a_knobs_own_flag_wins_over_the_method_as_it_is_written(vsf, folder, tmp_path):
    words = ("--model", folder, "--size", 16, "--steps", 1, "--negative", "wheels", "-o", "a.png")
    assert vsf("generate", "a car", "--method", "vsf:scale=2,offset=1", "--scale", 3, *words)[0] == 0
    knobs = provenance.read(tmp_path / "a.png")["knobs"]
    assert (knobs["scale"], knobs["offset"]) == (3.0, 1.0)
