"""Words that never reach the model are told, and a negative of which nothing is left is refused."""

import warnings

import pytest

import vsf
from families.models import tiny_flux, tiny_kolors, tiny_qwen_image, tiny_unet, tiny_wan
from support import tiny_pipelines as tiny
from vsf import tiny as embedded
from vsf.families.base.unread import UnreadWarning

LONG = "car " * 2500
OCTOPUS = "\N{OCTOPUS}"


@pytest.fixture(scope="module")
def little():
    return embedded.load()


def test_nothing_is_said_of_texts_that_are_read_as_a_whole(little):
    assert vsf.unread(little, "a red car") == []
    assert vsf.unread(little, ["a red car", "", "wheels"]) == []
    assert vsf.unread(little, vsf.Prompt.parse("a (red:1.2) car (wheels:-1)")) == []


def test_what_is_too_long_is_told_with_the_part_that_is_lost(little):
    words = ["car", "red", "wheels"] * 20
    (lost,) = vsf.unread(little, " ".join(words))
    assert lost.cut.split() == words[22:]  # of 24 tokens two are marks
    assert not lost.unknown
    assert str(lost).startswith('"car red wheels car')
    assert "too long: the model does not read" in str(lost)


@pytest.mark.parametrize(
    ("build", "tokens"),
    [
        (tiny_unet.pipeline, 75),
        (tiny_unet.pipeline_xl, 75),
        (lambda: tiny.sd3(t5=False), 75),
        (tiny.sd3, 255),  # T5 reads what the CLIPs do not
        (tiny_flux.pipeline, 511),
        (tiny_wan.pipeline, 511),
    ],
    ids=["stable diffusion", "sdxl", "sd3 without t5", "sd3", "flux", "wan"],
)
def test_as_much_is_read_as_the_longest_of_the_encoders_reads(build, tokens):
    text = "ab" * 5000
    (lost,) = vsf.unread(build(), text)
    read = len(text) - len(lost.cut)
    assert tokens - 1 <= read <= tokens  # one token a letter; T5 has one for the space in front
    assert text.endswith(lost.cut)


def kolors():
    pipe = tiny_kolors.pipeline()
    pipe.text_encoder.seq_length = 256
    return pipe


@pytest.mark.parametrize("build", [tiny_qwen_image.pipeline, kolors], ids=["in a chat", "slow tokenizer"])
def test_templates_and_tokenizers_without_offsets_tell_too(build):
    pipe = build()
    assert vsf.unread(pipe, "a red car") == []
    (lost,) = vsf.unread(pipe, LONG)
    assert LONG.strip().endswith(lost.cut)
    assert 0 < len(lost.cut) < len(LONG)


def test_words_that_no_tokenizer_knows_are_told(little):
    (lost,) = vsf.unread(little, f"a {OCTOPUS} car")
    assert (lost.cut, lost.unknown) == ("", (OCTOPUS,))
    assert str(lost) == f'the model cannot read "{OCTOPUS}" in "a {OCTOPUS} car"'
    (lost,) = vsf.unread(tiny_wan.pipeline(), f"a {OCTOPUS} car")
    assert lost.unknown == (OCTOPUS,)
    assert (
        vsf.unread(tiny.sd3(), "a caf\N{LATIN SMALL LETTER E WITH ACUTE} car") == []
    )  # T5 does not know the letter, the CLIPs do


def test_a_prompt_stands_for_its_text_and_its_negatives(little):
    lost = vsf.unread(little, vsf.Prompt(f"a {OCTOPUS}", {f"wheels {OCTOPUS}": 1.0, "lights": 1.0}))
    assert [entry.text for entry in lost] == [f"a {OCTOPUS}", f"wheels {OCTOPUS}"]


@pytest.mark.parametrize("text", [LONG, f"{OCTOPUS} wheels"], ids=["too long", "unknown"])
def test_encoding_a_negative_warns_of_what_is_not_read(little, text):
    with pytest.warns(UnreadWarning, match="the model does not read|the model cannot read"):
        vsf.encode(little, text)
    with pytest.warns(UnreadWarning), vsf.guide(little, text):
        pass


def test_a_negative_that_is_read_as_a_whole_brings_no_warning(little):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        negative = vsf.encode(little, {"wheels": 1.0, "lights": 0.5}, within="a red car with {}")
    assert negative.lengths[0] > 0
    assert [warning for warning in caught if issubclass(warning.category, UnreadWarning)] == []


@pytest.mark.parametrize("build", [embedded.load, tiny_wan.pipeline], ids=["tiny", "wan"])
def test_a_negative_of_which_nothing_is_left_is_refused(build):
    pipe = build()
    for within in (None, "a red car with {}"):
        with pytest.raises(vsf.PromptError, match="nothing is left of this negative prompt: the model cannot read"):
            vsf.encode(pipe, f"{OCTOPUS} {OCTOPUS}", within=within)
    assert vsf.encode(pipe, "").lengths == (0,)


def test_listening_leaves_nothing_behind(little):
    hosts = type(little.tokenizer), type(little)
    vsf.unread(little, LONG)
    assert (type(little.tokenizer), type(little)) == hosts


def test_what_encodes_no_texts_is_refused(little):
    with pytest.raises(vsf.PromptError, match="a denoiser cannot encode texts"):
        vsf.unread(little.transformer, "a red car")
    freed = tiny_wan.pipeline()
    freed.text_encoder = None
    with pytest.raises(vsf.PromptError, match="text encoders are gone"):
        vsf.unread(freed, "a red car")
