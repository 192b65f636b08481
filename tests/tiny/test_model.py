"""The embedded model is an ordinary SD3 pipeline, trained on exactly the rows that a plain call makes."""

import pytest
import torch

from vsf import tiny
from vsf.tiny import model, stages
from vsf.tiny.words import WORDS


@pytest.fixture(scope="module")
def pipe():
    torch.manual_seed(0)
    pipe = model.pipeline()
    for parameter in pipe.transformer.parameters():
        if not parameter.any():  # gates start at zero and would hide the text
            torch.nn.init.normal_(parameter, std=0.05)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def denoiser(pipe):
    return stages.Denoiser(pipe.transformer, [pipe.text_encoder, pipe.text_encoder_2])


def test_every_word_of_the_world_is_one_token():
    words = model.tokenizer()
    for word in WORDS:
        assert len(words.tokenize(word)) == 1, word


def test_an_unknown_word_is_spelled_and_nothing_is_lost():
    words = model.tokenizer()
    pieces = words.tokenize("xylophone")
    assert len(pieces) > 1
    assert "".join(pieces).replace("</w>", "") == "xylophone"


def test_one_weighted_filler_row_equals_the_256_rows_of_a_plain_call(pipe):
    captions = ["a red car", "a house with windows"]
    latents, sigma = torch.randn(2, 16, 8, 8), torch.tensor([0.3, 0.8])
    tokens, _ = stages.tokenize(pipe.tokenizer, captions)
    rows, _, pooled, _ = pipe.encode_prompt(captions, None, None, do_classifier_free_guidance=False)
    with torch.no_grad():
        plain = pipe.transformer(latents, rows, pooled, sigma * 1000, return_dict=False)[0]
        ours = denoiser(pipe)(latents, sigma, tokens)
    assert rows.shape[1] == model.PROMPT_TOKENS + stages.FILLER_ROWS
    assert (ours - plain).abs().max() <= 1e-5 * plain.abs().max()


def test_bare_rows_equal_a_call_with_the_unpadded_rows_alone(pipe):
    tokens, real = stages.tokenize(pipe.tokenizer, ["a red car", "a house with windows"])
    latents, sigma = torch.randn(2, 16, 8, 8), torch.tensor([0.3, 0.8])
    count = int(real[0].sum())
    with torch.no_grad():
        ours = denoiser(pipe)(latents, sigma, tokens, real)[:1]
        rows, pooled = model.encode_text([pipe.text_encoder, pipe.text_encoder_2], tokens)
        alone = pipe.transformer(latents[:1], rows[:1, :count], pooled[:1], sigma[:1] * 1000, return_dict=False)[0]
    assert (ours - alone).abs().max() <= 1e-5 * alone.abs().max()


def test_a_saved_pipeline_is_half_precision_and_draws_the_same_picture(pipe, tmp_path):
    model.save(pipe, tmp_path / "model")
    again = tiny.read(tmp_path / "model")
    again.set_progress_bar_config(disable=True)
    draw = {"num_inference_steps": 2, "guidance_scale": 0.0, "output_type": "pt"}
    first = pipe("a red car", generator=torch.Generator().manual_seed(0), **draw).images
    second = again("a red car", generator=torch.Generator().manual_seed(0), **draw).images
    assert (first - second).abs().max() <= 1e-3  # pipe was rounded to half precision by saving, too
    size = sum(file.stat().st_size for file in (tmp_path / "model").rglob("*.safetensors"))
    assert size <= 16e6


@pytest.mark.parametrize("steps", [4, 8])
def test_the_schedule_keeps_its_last_step_worth_taking(pipe, steps):
    grid = stages.step_grid(pipe.scheduler, steps)
    assert grid[0] == pytest.approx(1)
    assert grid[-2] == pytest.approx(0.1, abs=1e-4)
    assert grid[-1] == 0
    assert len(grid) == steps + 1


def test_a_students_target_is_where_the_teacher_lands(pipe):
    """With guidance 1 and one substep the teacher's own velocity is the target, so a perfect copy has no loss."""
    teacher = denoiser(pipe)
    tokens, _ = stages.tokenize(pipe.tokenizer, ["a red car", "a house"])
    empty, _ = stages.tokenize(pipe.tokenizer, ["", ""])
    walk = torch.tensor([[0.8, 0.6], [0.5, 0.3]])
    push = stages.Push(guidance_scale=1.0, part_scale=0.0, essential_scale=0.0)
    with torch.no_grad():
        texts, noise = (tokens, empty, empty, empty), torch.Generator().manual_seed(0)
        loss = stages.student_loss((teacher, teacher), torch.randn(2, 16, 8, 8), texts, walk, push, noise)
    assert loss < 1e-10
