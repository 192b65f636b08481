"""LTX-2 beyond what every family shows: the calls that it makes besides those of classifier-free guidance."""

import pytest
import torch

import vsf
from families.harness import STRONG, DenoiserRows, call
from families.models import tiny_ltx2 as tiny

NO_EXTRA = {"stg_scale": 0.0, "modality_scale": 1.0, "audio_stg_scale": 0.0, "audio_modality_scale": 1.0}
SETTINGS = {**tiny.SETTINGS, **NO_EXTRA, "num_inference_steps": 1, "guidance_scale": 3.0, "negative_prompt": "ugly"}


@pytest.mark.parametrize(
    "extra",
    [{"stg_scale": 1.0, "spatio_temporal_guidance_blocks": [1]}, {"modality_scale": 2.0}],
    ids=["perturbed attention", "parted picture and sound"],
)
def test_an_extra_call_has_conditional_rows_alone(extra):
    pipe = tiny.pipeline()
    recorder = DenoiserRows(pipe.transformer)
    call(pipe, "a red car", **{**SETTINGS, **extra})
    plain, recorder.rows = recorder.rows, []
    with vsf.guide(pipe, "wheels", method=STRONG) as report:
        call(pipe, "a red car", **{**SETTINGS, **extra})
    assert report.steps == 2
    assert [torch.equal(*pair) for pair in zip(recorder.rows, plain, strict=True)] == [True, False, False]


def test_sound_has_no_part_in_the_heat_map():
    pipe = tiny.pipeline()
    with vsf.guide(pipe, "wheels", method=STRONG, observe=True) as report:
        call(pipe, "a red car", **{**SETTINGS, "guidance_scale": 1.0})
    seen = dict(zip(report.layers, report.mass()[0, :, 0].isfinite().tolist(), strict=True))
    assert seen == {name: "audio" not in name for name in report.layers}
    assert report.calls == len(report.layers)
