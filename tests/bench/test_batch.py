"""Batches drawn by a pipeline of random weights: the same picture in every batch, whoever else is in it."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from support import tiny_pipelines as tiny
from support.bench_fixtures import NONE, PAIRS, VSF
from vsf import guide
from vsf.bench.plan import Setting
from vsf.bench.run import batch as generation
from vsf.bench.run.batch import Batch, Conditions, DrawJob, draw, noise_seed
from vsf.errors import RequestError
from vsf.text.context import belonging

SMALL = Conditions(model="random", size=(16, 16), batch=3)


@pytest.fixture(scope="module")
def pipe():
    return tiny.sd3(t5=False, patch_size=2)


def batch(setting=NONE, pairs=PAIRS[:3], seed=0):
    return Batch(setting.model_copy(update={"steps": 2}), tuple(pairs), seed, "random", "r")


def pixels(images):
    return [np.asarray(frames[0], int) for frames in images]


def test_each_picture_is_what_the_pipeline_draws_alone_under_the_same_guidance(pipe):
    together = pixels(draw(pipe, batch(VSF), SMALL))
    for pair, found in zip(PAIRS, together, strict=False):
        generator = torch.Generator().manual_seed(noise_seed(pair.id, 0))
        with guide(pipe, pair.negative, method=VSF.guidance()):
            call = pipe(
                pair.prompt, num_inference_steps=2, guidance_scale=0.0, height=16, width=16, generator=generator
            )
        assert np.abs(np.asarray(call.images[0], int) - found).max() <= 1


def test_a_negative_is_read_as_a_part_of_what_its_prompt_is_about(pipe):
    inside = Setting(label="inside", method="vsf", knobs={"scale": 4.0}, within="subject")
    outside = inside.model_copy(update={"within": ""})
    found, other = (pixels(draw(pipe, batch(setting), SMALL)) for setting in (inside, outside))
    pair, generator = PAIRS[0], torch.Generator().manual_seed(noise_seed(PAIRS[0].id, 0))
    with guide(pipe, pair.negative, within=belonging(pair.prompt), method=inside.guidance()):
        call = pipe(pair.prompt, num_inference_steps=2, guidance_scale=0.0, height=16, width=16, generator=generator)
    assert np.abs(np.asarray(call.images[0], int) - found[0]).max() <= 1
    assert any((one != another).any() for one, another in zip(found, other, strict=True))


def test_pairs_and_seeds_start_from_other_noise_and_settings_from_the_same(pipe):
    assert len({noise_seed(pair.id, seed) for pair in PAIRS for seed in range(3)}) == 15
    off = Setting(label="off", method="vsf", knobs={"offset": float("inf")})
    plain, shut = pixels(draw(pipe, batch(NONE), SMALL)), pixels(draw(pipe, batch(off), SMALL))
    guided = pixels(draw(pipe, batch(VSF), SMALL))
    assert all((one == other).all() for one, other in zip(plain, shut, strict=True))
    assert any((one != other).any() for one, other in zip(plain, guided, strict=True))


def test_the_negative_goes_to_the_pipeline_where_the_setting_says_so(pipe):
    cfg = Setting(label="cfg", method="none", guidance_scale=5.0, negative="pipeline")
    found = pixels(draw(pipe, batch(cfg), SMALL))
    call = pipe(
        [pair.prompt for pair in PAIRS[:3]],
        negative_prompt=[pair.negative for pair in PAIRS[:3]],
        num_inference_steps=2,
        guidance_scale=5.0,
        height=16,
        width=16,
        generator=[torch.Generator().manual_seed(noise_seed(pair.id, 0)) for pair in PAIRS[:3]],
    )
    assert all((np.asarray(image, int) == one).all() for image, one in zip(call.images, found, strict=True))


def test_a_schedule_that_is_off_leaves_the_pictures_alone(pipe):
    off = VSF.model_copy(update={"schedule": {"start": 0.0, "end": 0.0}})
    plain, unscheduled = pixels(draw(pipe, batch(NONE), SMALL)), pixels(draw(pipe, batch(off), SMALL))
    assert all((one == other).all() for one, other in zip(plain, unscheduled, strict=True))


def test_the_work_loads_a_model_once_and_puts_the_threads_back(pipe, monkeypatch):
    loads = []

    def load(request):
        loads.append(request.model)
        return generation.Model(pipe, {"device": "cpu"})

    monkeypatch.setattr(generation, "load", load)
    threads = torch.get_num_threads()
    work = DrawJob(SMALL)
    first, second = work(batch()), work(batch(VSF, PAIRS[3:]))
    assert loads == ["random"]
    assert torch.get_num_threads() == threads
    assert (len(first.files), len(second.files), first.frames, first.size) == (3, 2, 1, (16, 16))
    assert first.run.seconds > 0
    assert first.run.peak_memory > 1e6
    assert Image.open(io.BytesIO(first.files[0])).size == (16, 16)
    assert work(batch()).files == first.files


def test_what_the_pipeline_refuses_is_a_request_error_with_the_setting(pipe):
    with pytest.raises(RequestError, match='refuses the setting "none"'):
        draw(pipe, batch(), SMALL.model_copy(update={"size": (15, 15)}))


def test_of_a_clip_four_frames_are_kept_without_loss():
    frames = [Image.new("RGB", (4, 4), (index, 255 - index, 0)) for index in range(9)]
    kept = generation._frames_to_judge(frames)
    assert [frame.getpixel((0, 0))[0] for frame in kept] == [0, 3, 5, 8]
    assert len(generation._frames_to_judge(frames[:3])) == 3
    with Image.open(io.BytesIO(generation.png(kept))) as file:
        assert file.n_frames == 4
        for index, frame in enumerate(kept):
            file.seek(index)
            assert file.convert("RGB").tobytes() == frame.tobytes()


def test_a_clip_that_stands_still_keeps_its_frames():
    with Image.open(io.BytesIO(generation.png([Image.new("RGB", (4, 4), (7, 7, 7))] * 4))) as file:
        assert file.n_frames == 4
        file.seek(3)
        assert file.convert("RGB").getpixel((0, 0)) == (7, 7, 7)


def test_a_model_goes_by_the_hash_of_its_weights(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"one")
    name, first = generation.identify(str(tmp_path))
    (tmp_path / "a.safetensors").write_bytes(b"two")
    assert name == str(tmp_path)
    assert generation.identify(str(tmp_path))[1] != first
    assert generation.identify("tiny")[0] == "tiny"
    with pytest.raises(RequestError, match="hub"):
        generation.identify("nobody/nothing")
