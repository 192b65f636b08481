"""Negatives as rows of real tokens, and the tokenizer call that makes them so."""

import pytest
import torch

import vsf
from vsf.text.embeddings import NegativeRows, TokenizePadded, TokenizeTemplate, TokenizeUnpadded

LIKE = torch.zeros(4, 9, 3, dtype=torch.float64)


def negative(*lengths, channels=3, special=None):
    rows = tuple(torch.arange(1.0, length * channels + 1).reshape(length, channels) for length in lengths)
    return vsf.Negative(rows, special)


# Negative ---------------------------------------------------------------------------------------------------------


def test_a_negative_knows_how_many_tokens_each_prompt_has():
    assert negative(2, 0, 5).lengths == (2, 0, 5)
    assert len(negative(2, 0, 5)) == 3


def test_padding_is_dropped_by_its_mask():
    embeddings = torch.randn(2, 4, 3)
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 1]])
    got = vsf.Negative.from_padded(embeddings, mask)
    assert torch.equal(got.embeddings[0], embeddings[0, :2])
    assert torch.equal(got.embeddings[1], embeddings[1, 3:])


@pytest.mark.parametrize(("embeddings", "mask"), [((2, 4, 3), (2, 3)), ((2, 4, 3), (1, 4)), ((4, 3), (4,))])
def test_a_mask_that_does_not_fit_is_refused(embeddings, mask):
    with pytest.raises(vsf.PromptError, match="expected embeddings"):
        vsf.Negative.from_padded(torch.zeros(embeddings), torch.ones(mask))


def test_a_whole_batch_in_one_tensor_is_refused_because_it_may_hold_padding():
    with pytest.raises(vsf.PromptError, match=r"from_padded\(embeddings, mask\)"):
        vsf.Negative((torch.zeros(1, 4, 3),))


def test_entries_of_different_width_are_refused():
    with pytest.raises(vsf.PromptError, match="same channels"):
        vsf.Negative((torch.zeros(4, 3), torch.zeros(4, 2)))


def test_no_entry_at_all_is_refused():
    with pytest.raises(vsf.PromptError, match="no negative prompt"):
        vsf.Negative(())


def test_marks_must_be_one_for_each_token():
    with pytest.raises(vsf.PromptError, match="one flag per token"):
        negative(2, special=(torch.ones(3, dtype=torch.bool),))


def test_stripping_takes_the_marks_out():
    marked = negative(4, special=(torch.tensor([True, False, False, True]),))
    assert torch.equal(marked.stripped().embeddings[0], marked.embeddings[0][1:3])
    assert marked.stripped().special[0].tolist() == [False, False]


def test_stripping_without_knowing_the_marks_is_refused():
    with pytest.raises(vsf.PromptError, match="begin and end marks"):
        negative(4).stripped()


# Rows -------------------------------------------------------------------------------------------------------------


def test_rows_are_filled_up_to_the_longest_one_in_use():
    one = negative(2, 0, 3, 7)
    rows = one.rows([0, None, 2, 1], LIKE)
    assert rows.embeddings.shape == (4, 3, 3)
    assert rows.embeddings.dtype == torch.float64
    assert rows.lengths == (2, 0, 3, 0)
    assert torch.equal(rows.embeddings[0, :2].float(), one.embeddings[0])
    assert rows.embeddings[0, 2:].abs().sum() == rows.embeddings[1].abs().sum() == 0


def test_only_real_tokens_are_valid():
    valid = negative(2, 0, 3).rows([0, None, 2, 1], LIKE).valid(4)
    assert valid.int().tolist() == [[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]]


def test_no_mask_is_needed_when_every_token_is_real():
    assert NegativeRows(torch.zeros(2, 3, 4), (3, 3)).valid(3) is None


def test_the_negatives_of_a_row_stand_in_slots_as_long_as_the_longest_and_keep_their_weights():
    embeddings = (torch.arange(1.0, 16.0).reshape(5, 3), torch.arange(1.0, 10.0).reshape(3, 3))
    shares = ((vsf.Share(2, 0.5), vsf.Share(3, 2.0)), (vsf.Share(3),))
    rows = vsf.Negative(embeddings, shares=shares).rows([1, 0, None], LIKE)
    assert rows.slots == (3, 3)
    assert rows.lengths == (3, 5, 0)
    real = [[1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 1, 1], [0] * 6]
    assert rows.valid(6).int().tolist() == real
    assert rows.weights.tolist() == [[1.0, 1.0], [0.5, 2.0], [1.0, 1.0]]
    assert torch.equal(rows.embeddings[1, [0, 1, 3, 4, 5]].float(), embeddings[0])
    assert (rows.embeddings.abs().sum(-1) > 0).int().tolist() == real


def test_channels_of_another_pipeline_are_refused():
    with pytest.raises(vsf.PromptError, match="5 channels, this denoiser's text 3"):
        negative(2, channels=5).rows([0], LIKE)


# Tokenizer calls --------------------------------------------------------------------------------------------------


def tokenize(tokenizer, text, **kwargs):
    return {"text": text, "special_tokens_mask": torch.tensor([[1, 0, 1]]), **kwargs}


def test_a_padded_call_becomes_one_without_padding():
    unpadded = TokenizeUnpadded()
    got = unpadded(tokenize, object(), "a", padding="max_length", max_length=77, truncation=True)
    assert (got["padding"], got["max_length"], got["truncation"]) == ("longest", 77, True)
    assert "special_tokens_mask" not in got
    assert unpadded.special.tolist() == [[True, False, True]]


def test_a_length_takes_the_place_of_the_pipelines_own():
    got = TokenizeUnpadded(5)(tokenize, object(), "a", padding="max_length", max_length=77)
    assert (got["padding"], got["max_length"]) == ("max_length", 5)


def test_other_calls_pass_as_they_are():
    unpadded = TokenizeUnpadded()
    got = unpadded(tokenize, object(), "a", padding="longest")
    assert "return_special_tokens_mask" not in got
    assert unpadded.special.numel() == 0


def test_a_padded_call_can_be_left_as_it_is_and_tells_how_many_tokens_are_real():
    def padded(tokenizer, text, **kwargs):
        marks, mask = torch.tensor([[1, 0, 1, 1, 1]]), torch.tensor([[1, 1, 1, 0, 0]])
        return {"special_tokens_mask": marks, "attention_mask": mask, **kwargs}

    noted = TokenizePadded()
    got = noted(padded, object(), "a", padding="max_length", max_length=5)
    assert (got["padding"], got["max_length"]) == ("max_length", 5)
    assert "special_tokens_mask" not in got
    assert (noted.length, noted.special.int().tolist()) == (3, [[1, 0, 1, 1, 1]])
    noted(tokenize, object(), "a b c", padding="longest")
    assert noted.length == 3


@pytest.mark.parametrize("weight", [0.0, -1.0, 10.5, float("inf"), float("nan")])
def test_a_share_out_of_the_bounds_of_a_weight_is_refused(weight):
    with pytest.raises(vsf.PromptError, match="weights are above 0 and at most 10"):
        vsf.Negative((torch.zeros(2, 3),), shares=((vsf.Share(2, weight),),))


def by_letters(tokenizer, text, **kwargs):
    """One token per letter, "<" and ">" being marks that stand for no letter."""
    (whole,) = [text] if isinstance(text, str) else text
    offsets = [(0, 0) if letter in "<>" else (at, at + 1) for at, letter in enumerate(whole)]
    return {"text": text, "offset_mapping": offsets, **kwargs}


@pytest.mark.parametrize("wrap", [str, lambda text: [text]], ids=["text", "list"])
def test_what_a_template_puts_around_a_prompt_is_marked(wrap):
    templated = TokenizeTemplate(" red car ")
    got = templated(by_letters, object(), wrap("<say red, red car red>"), padding="max_length")
    assert templated.special.logical_not().nonzero().flatten().tolist() == [*range(10, 17)]
    assert got["text"] == wrap("<say red, red car red>")
    assert got["padding"] == "longest"
    assert "offset_mapping" not in got


def test_a_piece_of_the_template_can_be_left_out():
    templated = TokenizeTemplate("red", without="[picture]")
    assert templated(by_letters, object(), "<[picture]red>")["text"] == "<red>"
    assert templated.special.tolist() == [True, False, False, False, True]


def test_only_the_first_call_tells_the_marks():
    templated = TokenizeTemplate("red")
    templated(by_letters, object(), "<red>")
    templated(by_letters, object(), "<<red>>")
    assert templated.special.tolist() == [True, False, False, False, True]
