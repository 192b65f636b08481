"""Training runs end to end, and a stopped run goes on as if it had not been stopped."""

import json

import diffusers
import pytest
import torch

from vsf import tiny
from vsf.errors import UnknownNameError
from vsf.tiny import model, stages, train

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
CONFIG = {
    "seed": 0,
    "batch": 8,
    "encoder": {"chunks": 1},
    "decoder": {"steps": 2, "batch": 2, "learning_rate": 1e-3, "noise": 0.1},
    "data": {"chunk": 8, "window": 4, "visits": 1},  # a new chunk at every step
    "teacher": {"steps": 4, "learning_rate": 1e-3, "drop_caption": 0.1, "bare_rows": 0.5},
    "student": {
        "steps": 2,
        "learning_rate": 1e-4,
        "guidance_scale": 2.0,
        "part_scale": 1.0,
        "essential_scale": 1.0,
        "step_counts": [4, 8],
        "teacher_substeps": 2,
    },
}


def different(first, second):
    """The names of the files that are not the same in two folders."""
    names = {
        str(file.relative_to(folder)) for folder in (first, second) for file in folder.rglob("*") if file.is_file()
    }
    both = {name: [folder / name for folder in (first, second)] for name in names}
    same = {name for name, (a, b) in both.items() if a.exists() and b.exists() and a.read_bytes() == b.read_bytes()}
    return sorted(names - same)


def run(out):
    """Train the teacher; returns its weights."""
    out.mkdir(exist_ok=True)
    torch.manual_seed(0)
    trainer = train.Trainer(model.pipeline(), CONFIG, out)
    trainer.encoder()
    trainer.teacher()
    return trainer.pipe.transformer.state_dict()


@pytest.mark.slow
def test_every_stage_runs_and_both_models_come_out(tmp_path):
    recipe = tmp_path / "recipe.toml"
    lines = [f"{key} = {value}" for key, value in CONFIG.items() if not isinstance(value, dict)]
    for name, section in CONFIG.items():
        if isinstance(section, dict):
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in section.items())]
    recipe.write_text("\n".join(lines))
    train.main(out=tmp_path / "run", config=recipe)
    for name in ("tiny-base", "tiny"):
        pipe = tiny.read(tmp_path / "run" / name)
        pipe.set_progress_bar_config(disable=True)
        assert pipe("a red car", num_inference_steps=2, guidance_scale=0.0).images[0].size == (64, 64)
    assert different(tmp_path / "run" / "tiny-base", tmp_path / "run" / "tiny") == [WEIGHTS]


def test_the_students_teacher_is_pushed_from_three_other_captions():
    # what it says to the caption, the empty one, the one without parts, and the one with the essential ones
    told = torch.tensor([[1.0], [2.0], [5.0], [4.0]])

    def teacher(latents, sigma, tokens):
        assert len(latents) == len(sigma) == len(tokens) == 4
        return told

    one = torch.zeros(1, 1)
    push = stages.Push(guidance_scale=3.0, part_scale=0.5, essential_scale=2.0)
    expected = 1 + 2 * (1 - 2) + 0.5 * (1 - 5) + 2 * (1 - 4)
    assert push.velocity(teacher, one, one[0], [one] * 4).tolist() == [[expected]]


def test_a_warm_run_keeps_the_shipped_latents(tmp_path, monkeypatch):
    def never(self):
        raise AssertionError("another world would give another code")

    monkeypatch.setattr(train.Trainer, "encoder", never)
    monkeypatch.setattr(train.Trainer, "teacher", lambda self: None)
    train.main(tmp_path, only="teacher", warm=True)
    changed = different(tmp_path / "tiny-base" / "vae", tiny.folder() / "vae")
    assert set(changed) <= {"config.json"}  # which names the diffusers that wrote it


def test_a_warm_student_starts_from_the_shipped_teacher_and_learns_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(train.Trainer, "student", lambda self: self._frozen_teacher())
    train.main(tmp_path, only="student", warm=True)
    for name in ("tiny-base", "tiny"):
        assert WEIGHTS not in different(tmp_path / name, tiny.folder("tiny-base"))


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_as_the_uninterrupted_one(tmp_path, monkeypatch):
    whole = run(tmp_path / "whole")
    monkeypatch.setattr("vsf.tiny.loop.CHECKPOINT_EVERY", 2)
    visit = train.Trainer._visit

    def stopping(self, window, step, rng):
        if step == 3:
            raise KeyboardInterrupt
        return visit(self, window, step, rng)

    monkeypatch.setattr(train.Trainer, "_visit", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts")
    monkeypatch.undo()
    resumed = run(tmp_path / "parts")
    for name, weight in whole.items():
        assert torch.equal(weight, resumed[name]), name


def test_the_shipped_models_differ_in_their_transformer_alone():
    """So that history and every clone hold encoders and autoencoder once; a tokenizer also notes its last padding."""
    noted = ["tokenizer/tokenizer.json", "tokenizer_2/tokenizer.json"]
    assert set(different(tiny.folder("tiny-base"), tiny.folder("tiny"))) <= {WEIGHTS, *noted}
    for file in noted:
        one, other = (json.loads((tiny.folder(name) / file).read_text()) for name in tiny.MODELS)
        assert {**one, "padding": None, "truncation": None} == {**other, "padding": None, "truncation": None}


@pytest.mark.parametrize("name", tiny.MODELS)
def test_a_shipped_model_is_loaded_by_plain_diffusers_and_small(name):
    absent = {"text_encoder_3": None, "tokenizer_3": None}
    pipe = diffusers.StableDiffusion3Pipeline.from_pretrained(tiny.folder(name), dtype=torch.float32, **absent)
    pipe.set_progress_bar_config(disable=True)
    assert pipe("a red car", num_inference_steps=2, guidance_scale=0.0).images[0].size == (64, 64)
    assert sum(file.stat().st_size for file in tiny.folder(name).rglob("*") if file.is_file()) <= 16e6


def test_an_unknown_embedded_model_is_refused_by_name():
    with pytest.raises(UnknownNameError, match="tiny"):
        tiny.load("tinny")
