"""Clips: drawn like pictures, and written as MP4 with a sidecar of metadata."""

import json

import pytest
import torch
from imageio_ffmpeg import count_frames_and_secs, read_frames
from PIL import Image, ImageChops

from families.models import tiny_wan as tiny
from support import tiny_pipelines
from vsf.errors import RequestError
from vsf.generation import Request, generate, video
from vsf.generation.metadata import provenance


@pytest.fixture(scope="module")
def pipe():
    return tiny.pipeline()


def request(**fields):
    return Request(**{"prompt": "a red car", "steps": 1, "size": (48, 32), "frames": 5, **fields})


def frames(count=5, size=(48, 32)):
    return [Image.new("RGB", size, (20 * number, 30, 30)) for number in range(count)]


# Drawing ----------------------------------------------------------------------------------------------------------


def test_without_a_negative_a_clip_is_the_pipeline_s_own(pipe):
    (drawn,) = generate(request(seed=5), pipe=pipe)
    settings = {"num_inference_steps": 1, "guidance_scale": 0.0, "width": 48, "height": 32, "num_frames": 5}
    expected = pipe("a red car", **settings, output_type="pil", generator=torch.Generator().manual_seed(5)).frames[0]
    assert len(drawn.frames) == len(expected) == 5
    assert all(ImageChops.difference(*pair).getbbox() is None for pair in zip(drawn.frames, expected, strict=True))
    assert drawn.image is drawn.frames[0]
    assert (drawn.metadata["frames"], drawn.metadata["size"]) == (5, [48, 32])


def test_a_negative_acts_on_a_clip(pipe):
    (plain,), (guided,) = (
        generate(request(), pipe=pipe),
        generate(request(negative="wheels", knobs={"scale": 8}), pipe=pipe),
    )
    assert guided.report.calls
    assert any(ImageChops.difference(*pair).getbbox() for pair in zip(plain.frames, guided.frames, strict=True))


def test_a_model_of_clips_wants_a_length_and_one_of_pictures_none(pipe):
    with pytest.raises(RequestError, match="say how long with --frames"):
        generate(request(frames=None), pipe=pipe)
    with pytest.raises(RequestError, match="draws pictures"):
        generate(request(size=None), pipe=tiny_pipelines.sd3(t5=False))


@pytest.mark.parametrize(("asked", "closest"), [(4, 5), (6, 5), (2, 1)])
def test_a_length_that_the_model_does_not_have_is_refused_with_the_closest(pipe, asked, closest):
    with pytest.raises(RequestError, match=f"ask for {closest}"):
        generate(request(frames=asked), pipe=pipe)


@pytest.mark.parametrize("asked", [0, -1, 2.5, True])
def test_a_length_is_a_whole_number_above_0(asked):
    with pytest.raises(RequestError, match="frames has to be a whole number"):
        request(frames=asked)


def test_image_to_video_starts_from_a_picture(tmp_path):
    pipe = tiny.image_pipeline()
    with pytest.raises(RequestError, match="starts from a picture"):
        generate(request(), pipe=pipe)
    tiny.FRAME.save(tmp_path / "first.png")
    (drawn,) = generate(request(image=tmp_path / "first.png"), pipe=pipe)
    assert len(drawn.frames) == 5


# Files ------------------------------------------------------------------------------------------------------------


def test_a_clip_file_has_the_frames_and_the_note_beside_it_the_metadata(tmp_path):
    file, metadata = tmp_path / "clip.mp4", {"prompt": "a red car", "knobs": {"offset": float("inf")}}
    video.write(file, frames(), metadata)
    head, *shown = read_frames(file)
    assert (head["size"], head["fps"], head["codec"]) == ((48, 32), video.FRAMES_PER_SECOND, "h264")
    assert [round(frame[0] / 20) for frame in shown] == [0, 1, 2, 3, 4]  # the red of the first pixel
    assert json.loads((tmp_path / "clip.json").read_text()) == {"prompt": "a red car", "knobs": {"offset": "inf"}}
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mp4", "clip.json"}


def test_an_odd_side_loses_a_pixel(tmp_path):
    video.write(tmp_path / "clip.mp4", frames(size=(47, 33)), {})
    assert next(read_frames(tmp_path / "clip.mp4"))["size"] == (46, 32)


def test_a_clip_that_ffmpeg_does_not_finish_is_an_error_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr("imageio_ffmpeg.count_frames_and_secs", lambda _: (3, 0.2))
    with pytest.raises(RequestError, match="did not finish"):
        video.write(tmp_path / "clip.mp4", frames(), {})
    assert {path.name for path in tmp_path.iterdir()} == {"clip.json"}


def test_a_clip_of_a_second_is_a_second_long(tmp_path):
    video.write(tmp_path / "clip.mp4", frames(video.FRAMES_PER_SECOND), {})
    assert count_frames_and_secs(tmp_path / "clip.mp4") == (16, 1.0)


def test_a_clip_without_its_note_cannot_be_repeated(tmp_path):
    video.write(tmp_path / "clip.mp4", frames(1), {})
    (tmp_path / "clip.json").unlink()
    with pytest.raises(RequestError, match=r'"clip.json" beside it'):
        provenance.read(tmp_path / "clip.mp4")
