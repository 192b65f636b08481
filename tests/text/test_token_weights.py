"""Weights of words in the positive prompt: which tokens they become, and that they act."""

import math

import pytest
import torch

import vsf
from support import tiny_pipelines as tiny
from vsf.families import find_family
from vsf.text.prompt import Emphasis
from vsf.text.token_weights import TokenWeights, characters_of


@pytest.fixture
def pipe():
    return tiny.sd3()


def difference(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def draw(pipe, written, **settings):
    prompt = vsf.Prompt.parse(written)
    with vsf.guide(pipe, prompt, **settings):
        return tiny.call(pipe, prompt.positive)


def weighted(pipe, written):
    """The characters of the positive text whose tokens are weighted, and by how much."""
    prompt = vsf.Prompt.parse(written)
    characters = find_family(pipe).characters(pipe, prompt.positive)
    (weights,) = TokenWeights.of([prompt], lambda _: characters).weights
    found = [
        (prompt.positive[a:b].strip(), round(w, 3)) for (a, b), w in zip(characters, weights.tolist(), strict=True)
    ]
    return [pair for pair in found if pair[1] != 1]


def test_a_word_is_weighted_in_every_encoder_that_reads_it(pipe):
    letters = [(letter, 1.3) for letter in "car"]
    begin = letters[:1]  # T5 has a token of its own for the beginning of a word
    assert weighted(pipe, "a red (car:1.3)") == letters + begin + letters  # the CLIPs' tokens, then T5's


def test_the_space_before_a_word_does_not_count(pipe):
    assert {letter for letter, _ in weighted(pipe, "a (red:0.5) car")} == {"r", "e", "d"}


def test_there_are_as_many_characters_as_text_tokens(pipe):
    found = find_family(pipe).characters(pipe, "a red car")
    assert found[0] == (0, 0)
    assert len(found) == 77 + 512


def test_padding_and_marks_stand_for_nothing(pipe):
    characters = characters_of(pipe.tokenizer, "ab", 6)
    assert characters == [(0, 0), (0, 1), (1, 2), (2, 2), (2, 2), (2, 2)] or characters[3:] == [(0, 0)] * 3


def test_no_weights_leave_everything_as_it_is(pipe):
    with vsf.guide(pipe, "wheels"):
        expected = tiny.call(pipe)
    assert torch.equal(draw(pipe, "a red car (wheels:-1)"), expected)
    assert torch.equal(draw(pipe, "a red car"), tiny.call(pipe))


@pytest.mark.parametrize("method", ["none", "vsf", "nag"])
def test_weights_act_with_and_without_a_negative(pipe, method):
    for negative in ("", " (wheels:-1)"):
        plain = draw(pipe, "a red car" + negative, method=method)
        assert difference(draw(pipe, "a red (car:3)" + negative, method=method), plain) > 1e-4
    assert difference(draw(pipe, "a red (car:3)"), tiny.call(pipe)) > 1e-4


def test_a_weighted_word_adds_to_the_logits_of_its_keys_in_the_image_rows(pipe, monkeypatch):
    """One layer, one step, against a dense softmax on the attention that the plain model is about to compute."""
    pipe = tiny.sd3(num_layers=1, dual_attention_layers=())
    prompt = vsf.Prompt("a red car", {}, (Emphasis(6, 9, 3.0),))
    weights = torch.ones(77 + 24)
    weights[[5, 6, 7]] = 3.0
    t5 = [index for index, pair in enumerate(find_family(pipe).characters(pipe, "a red car")) if pair[1] > 6]
    weights[[index for index in t5 if index >= 77]] = 3.0
    stock = torch.nn.functional.scaled_dot_product_attention

    def emphatic(query, key, value, *args, **kwargs):
        if key.shape[2] != 64 + len(weights):
            return stock(query, key, value, *args, **kwargs)
        logits = query.double() @ key.double().transpose(-1, -2) / query.shape[-1] ** 0.5
        logits[:, :, :64, 64:] += weights.log().double()
        return (logits.softmax(-1) @ value.double()).to(query.dtype)

    with vsf.guide(pipe, prompt):
        got = tiny.call(pipe, num_inference_steps=1)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", emphatic)
    assert difference(got, tiny.call(pipe, num_inference_steps=1)) <= 1e-6


def test_each_prompt_of_a_batch_has_its_own_weights(pipe):
    written = ["a (red:2) car", "a hat", "two (old:0.3) trees (leaf:-1)"]
    latents = torch.randn(3, 4, 8, 8)
    prompts = [vsf.Prompt.parse(each) for each in written]
    alone = []
    for index, prompt in enumerate(prompts):
        with vsf.guide(pipe, prompt):
            alone.append(tiny.call(pipe, prompt.positive, latents=latents[index : index + 1]))
    with vsf.guide(pipe, prompts):
        together = tiny.call(pipe, [prompt.positive for prompt in prompts], latents=latents)
    assert difference(together, torch.cat(alone)) <= 1e-5


def test_an_attached_pipeline_takes_prompts_as_they_are(pipe):
    written = "a red (car:1.5) (wheels:-1.2)"
    expected = draw(pipe, written)
    vsf.attach(pipe)
    assert torch.equal(tiny.call(pipe, vsf.Prompt.parse(written)), expected)
    with pytest.raises(vsf.PromptError, match="holds its negatives"):
        tiny.call(pipe, vsf.Prompt.parse(written), negative_prompt="wheels")


def test_weights_of_another_prompt_are_refused(pipe):
    with vsf.guide(pipe, vsf.Prompt.parse("a red (car:1.3)")), pytest.raises(vsf.PromptError, match="'a red car'"):
        tiny.call(pipe, "a blue car")


def test_a_family_that_does_not_know_its_tokens_says_so(pipe, monkeypatch):
    family = type(find_family(pipe))
    monkeypatch.delattr(family, "characters")
    with (
        pytest.raises(vsf.KnobError, match="cannot be weighed for sd3"),
        vsf.guide(pipe, vsf.Prompt.parse("a (car:2)")),
    ):
        pass


def test_rows_are_as_long_as_the_text_that_the_model_is_called_with():
    wording = TokenWeights(("ab",), (torch.tensor([1.0, 2.0, 1.0]),))
    longer, none = wording.rows([0, None], 5, like=torch.zeros(1))
    assert longer.tolist() == [1, 2, 1, 1, 1]
    assert none is None
    assert wording.rows([0], 1, like=torch.zeros(1)) == (None,)
    assert math.isclose(float(wording.rows([0], 2, like=torch.zeros(1))[0][1]), 2.0)
