"""Negatives that are read as a part of something: which of the tokens act, and that the context tells."""

from itertools import pairwise

import pytest
import torch

import vsf
from support import tiny_pipelines as tiny
from vsf.families import find_family
from vsf.text.context import belonging, contexts, own_tokens, subject


@pytest.fixture
def pipe():
    return tiny.sd3()


@pytest.mark.parametrize(
    ("prompt", "about"),
    [
        ("a red car on snow", "a red car"),
        ("a blue house with a door and a roof in the city", "a blue house"),
        ("  a photo of a dog, sharp focus", "a photo of a dog"),
        ("A bicycle Leaning Against a wall", "A bicycle Leaning"),
        ("an onion", "an onion"),
        ("on snow", "on snow"),
        ("une voiture rouge", "une voiture rouge"),
        ("", ""),
    ],
)
def test_the_subject_of_a_prompt_ends_at_its_first_comma_or_preposition(prompt, about):
    assert subject(prompt) == about


def test_a_part_belongs_to_the_subject():
    assert belonging("a red car on snow") == "a red car with {}"


def test_one_context_serves_all_prompts_or_each_has_its_own():
    assert contexts(None, 2) == [None, None]
    assert contexts("a {}", 2) == ["a {}", "a {}"]
    assert contexts(["a {}", "b {}"], 2) == ["a {}", "b {}"]


@pytest.mark.parametrize("within", ["a car", "{} and {}", ["a {}"], ["a {}", None], 3.0])
def test_what_is_no_context_is_refused(within):
    with pytest.raises(vsf.PromptError, match=r"one \{\} where the negative prompt belongs"):
        contexts(within, 2)


def test_the_texts_own_tokens_and_the_marks_are_kept():
    marks = torch.tensor([True, False, False, False, False, True])  # begin, "a", " red", " hat", " x", end
    characters = [(0, 0), (0, 1), (1, 5), (5, 9), (9, 11), (0, 0), (0, 0)]
    kept = own_tokens("red hat", "a {} x", characters, marks)
    assert kept.tolist() == [True, False, True, True, False, True]


def test_a_negative_that_is_cut_off_is_refused():
    marks = torch.tensor([True, False, False, True])
    with pytest.raises(vsf.PromptError, match='"hat" is cut off'):
        own_tokens("hat", "a b {}", [(0, 0), (0, 1), (1, 3), (3, 7), (0, 0)], marks)
    with pytest.raises(vsf.PromptError, match="shorten within="):
        own_tokens("hat", "a b {}", [(0, 0), (0, 1), (1, 3), (0, 0)], marks)


def test_in_a_context_the_rows_are_those_of_the_whole_text(pipe):
    whole, inside = vsf.encode(pipe, "a red hat"), vsf.encode(pipe, "red", within="a {} hat")
    words = find_family(pipe).characters(pipe, "a red hat")
    own = torch.tensor([2 < stop <= 5 for start, stop in words if stop > start])
    kept = whole.special[0].clone()
    kept[~whole.special[0]] = own
    assert torch.equal(inside.embeddings[0], whole.embeddings[0][kept])
    assert inside.special[0].tolist() == whole.special[0][kept].tolist()
    assert 0 < int((~inside.special[0]).sum()) < int((~whole.special[0]).sum())
    assert inside.texts == (("red",),)


def test_each_prompt_has_its_context_and_an_empty_negative_needs_none(pipe):
    both = vsf.encode(pipe, ["hat", ""], within=["a red {}", "a {}"])
    alone = vsf.encode(pipe, "hat", within="a red {}")
    assert torch.equal(both.embeddings[0], alone.embeddings[0])
    assert both.lengths[1] == 0


def test_several_weighted_negatives_stand_in_the_context_one_at_a_time(pipe):
    several = vsf.encode(pipe, {"hat": 1.0, "car": 0.5}, within="a red {}")
    hat, car = (vsf.encode(pipe, text, within="a red {}").embeddings[0] for text in ("hat", "car"))
    assert torch.equal(several.embeddings[0], torch.cat([hat, car]))
    assert [share.weight for share in several.shares[0]] == [1.0, 0.5]


def test_the_context_changes_what_guidance_does(pipe):
    drawn = []
    for within in (None, "a red {}", "two green {}"):
        with vsf.guide(pipe, "hat", within=within, method=vsf.ValueSignFlip(scale=2)):
            drawn.append(tiny.call(pipe, "a dog"))
    assert all((one - other).abs().max() > 1e-4 for one, other in pairwise(drawn))


def test_what_cannot_take_a_context_says_so(pipe, monkeypatch):
    refused = [
        ({"negative": vsf.encode(pipe, "hat"), "within": "a {}"}, vsf.PromptError, "give within= to vsf.encode"),
        ({"negative_prompt": "hat", "within": "a {}", "method": "cfg"}, vsf.KnobError, "write its context into it"),
        ({"negative_prompt": "hat", "within": "a hat"}, vsf.PromptError, r"one \{\} where"),
    ]
    for arguments, error, message in refused:
        with pytest.raises(error, match=message), vsf.guide(pipe, **arguments):
            pass
    monkeypatch.delattr(type(find_family(pipe)), "characters")
    with pytest.raises(vsf.KnobError, match="picked out of within="):
        vsf.encode(pipe, "hat", within="a {}")
