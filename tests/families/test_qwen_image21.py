"""What Qwen-Image-2.1 has beyond what all families share: negatives of which there are keys alone."""

from functools import partial
from unittest.mock import patch

import pytest
import torch

import vsf
from families.harness import STRONG, difference, noise
from families.models import tiny_qwen_image21 as tiny
from vsf.families import qwen_image21
from vsf.families.layouts.static_keys import read_each
from vsf.text.embeddings import Share

CASE, LATER, _ = tiny.CASES
PIPELINE, UNKEPT = tiny.PIPELINES


@pytest.mark.parametrize(("case", "readings"), [(PIPELINE, 1), (UNKEPT, 3)], ids=["kept", "anew in every step"])
def test_a_negative_is_read_as_often_as_the_prompt(case, readings):
    pipe = case.build()
    counting = patch.object(qwen_image21, "read_keys", wraps=qwen_image21.read_keys)
    with counting as read, vsf.guide(pipe, "wheels", method=STRONG):
        case.run(pipe, num_inference_steps=3)
        assert read.call_count == readings
        case.run(pipe, num_inference_steps=3)
        assert read.call_count == 2 * readings


def test_guidance_that_begins_after_the_first_step_reads_the_negative_then():
    pipe = PIPELINE.build()
    plain = PIPELINE.run(pipe, num_inference_steps=4)
    with vsf.guide(pipe, "wheels", method=STRONG, schedule=vsf.Schedule(start=0.5)) as report:
        assert difference(PIPELINE.run(pipe, num_inference_steps=4), plain) > 1e-4
    assert report.steps == 2


def test_another_negative_for_the_same_prompt_is_read_too():
    model, text = CASE.model(), CASE.text()
    arguments = LATER.inputs(text)
    outputs = []
    for seed in (1, 2):
        with vsf.guide(model, negative=vsf.Negative((noise(5, 16, seed=seed),)), method=STRONG), torch.no_grad():
            outputs.append(model(**arguments, return_dict=False)[0])
    with vsf.guide(model, negative=vsf.Negative((noise(5, 16, seed=2),)), method=STRONG), torch.no_grad():
        assert torch.equal(model(**LATER.inputs(text), return_dict=False)[0], outputs[1])
    assert difference(*outputs) > 1e-4


def test_every_negative_has_the_positions_of_a_prompt():
    model, arguments = CASE.model(), CASE.inputs(CASE.text())
    read = partial(qwen_image21.read_keys, model, arguments)
    one, other = noise(3, 16, seed=1), noise(5, 16, seed=2)
    both = vsf.Negative((torch.cat([one, other]),), shares=((Share(3), Share(5)),))
    keys = read_each(both.rows([0], arguments["encoder_hidden_states"]), read)
    for negative, places in ((one, slice(3)), (other, slice(3, 8))):
        for layer, alone in read(negative[None]).items():
            of_both = tuple(each[:, :, places] for each in keys[layer])
            torch.testing.assert_close(of_both, alone, rtol=0, atol=1e-6)


def test_text_that_follows_the_time_of_the_picture_is_refused():
    pipe = tiny.pipeline(causal_condition=False)
    with pytest.raises(vsf.UnsupportedPipelineError, match="causal_condition=False"), vsf.guide(pipe, "wheels"):
        pass


def test_outputs_that_hold_a_text_are_not_mixed_with_those_of_another():
    with pytest.raises(vsf.KnobError, match="true_cfg_scale"), vsf.guide(PIPELINE.build(), "wheels", method="cfg"):
        pass


def test_attention_of_text_and_image_in_one_call_is_refused_where_it_would_be_and_only_there():
    """Compiled code cannot count the calls that were guided, so an error behind them would never come."""
    from diffusers.models.transformers.transformer_qwenimage21 import QwenImage21FlexAttnProcessor

    model, text = CASE.model(), CASE.text()
    model.set_attn_processor(QwenImage21FlexAttnProcessor())
    negative = vsf.Negative((noise(5, 16, seed=1),))
    with vsf.guide(model, negative=negative, method=STRONG), torch.no_grad():
        with pytest.raises(vsf.UnsupportedAttentionError, match=r"set_attn_processor\(QwenImage21AttnProcessor\(\)\)"):
            model(**CASE.inputs(text))
        guided = model(**LATER.inputs(text), return_dict=False)[0]
    plain = model(**LATER.inputs(text), return_dict=False)[0]
    assert difference(guided, plain) > 1e-4
