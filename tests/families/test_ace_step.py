"""What ACE-Step has beyond what all families share: sound in the place of the picture, and guidance in some steps."""

import pytest
import torch

import vsf
from families.harness import STRONG, DenoiserRows, call, noise
from families.models import tiny_ace_step
from vsf.families import FAMILIES


def test_steps_without_classifier_free_guidance_have_conditional_rows_alone(monkeypatch):
    pipe = tiny_ace_step.pipeline()
    conditional = []
    real = FAMILIES["ace_step"].conditional_rows
    recorder = DenoiserRows(pipe.transformer)

    def recorded(*arguments):
        conditional.append(real(*arguments))
        return conditional[-1]

    call(pipe, "a red car", **tiny_ace_step.IN_SOME_STEPS)
    monkeypatch.setattr(FAMILIES["ace_step"], "conditional_rows", recorded)
    with vsf.guide(pipe, "wheels", method=STRONG):
        call(pipe, "a red car", **tiny_ace_step.IN_SOME_STEPS)
    assert conditional == [[True], [True, False]]
    assert not torch.equal(recorder.rows[0], recorder.rows[3])


def test_a_mask_covers_a_time_of_the_music():
    model, case = tiny_ace_step.transformer(num_hidden_layers=1), tiny_ace_step.CASES[0]
    arguments = case.inputs(case.text())
    with torch.no_grad():
        plain = model(**arguments, return_dict=False)[0]
        with vsf.guide(model, negative=vsf.Negative((noise(5, 16),)), method=STRONG, mask=(0.5, 0, 1, 1)):
            guided = model(**arguments, return_dict=False)[0]
    before, after = slice(0, 4), slice(4, None)  # in latents; the third token has both sides of the middle
    assert torch.equal(guided[:, before], plain[:, before])
    assert (guided[:, after] != plain[:, after]).all()


def test_seconds_are_refused_with_what_to_give():
    with pytest.raises(vsf.KnobError, match="mask="), vsf.guide(tiny_ace_step.pipeline(), "wheels", seconds=(1, 2)):
        pass
