"""What Ideogram 4 has beyond what all families share: a second model, which reads no text."""

import torch

import vsf
from families.harness import STRONG, DenoiserRows
from families.models import tiny_ideogram4
from vsf.families import FAMILIES


def test_the_model_without_text_stays_as_it_is():
    pipe = tiny_ideogram4.pipeline()
    assert FAMILIES["ideogram4"].denoisers_of(pipe) == [pipe.transformer]
    outputs = {name: DenoiserRows(getattr(pipe, name)) for name in ("transformer", "unconditional_transformer")}
    case = tiny_ideogram4.PIPELINES[0]
    case.run(pipe, num_inference_steps=1)
    with vsf.guide(pipe, "wheels", method=STRONG) as report:
        case.run(pipe, num_inference_steps=1)
    same = {name: torch.equal(*recorded.rows) for name, recorded in outputs.items()}
    assert same == {"transformer": False, "unconditional_transformer": True}
    assert report.steps == 1


def test_a_negative_gets_the_room_that_it_needs():
    pipe = tiny_ideogram4.pipeline()
    text = "a long negative prompt " * 20
    assert len(vsf.encode(pipe, text).embeddings[0]) == len(pipe.tokenizer(text).input_ids) + sum(
        tiny_ideogram4.PIPELINES[0].special
    )
