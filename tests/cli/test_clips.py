"""`vsf generate --frames`: the command, its files and how a clip is repeated."""

import json

import pytest
from imageio_ffmpeg import count_frames_and_secs

from families.models import tiny_wan as tiny
from vsf.controls.places import Places
from vsf.generation import video


@pytest.fixture(scope="module")
def wan(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "wan"
    tiny.pipeline().save_pretrained(path)
    return path


@pytest.fixture
def draw(vsf, wan):
    def run(*words):
        return vsf("generate", "a red car", "--model", wan, "--steps", 1, "--size", "48x32", "--device", "cpu", *words)

    return run


def test_a_clip_is_written_with_its_note_and_repeated_from_it(draw, vsf, wan, tmp_path):
    words = ("--negative", "wheels", "--scale", 4, "--seed", 7, "--frames", 5, "--out", "clip.mp4")
    code, out, err = draw(*words)
    assert (code, out.strip()) == (0, "clip.mp4  (seed 7)"), err
    assert count_frames_and_secs(tmp_path / "clip.mp4")[0] == 5
    note = json.loads((tmp_path / "clip.json").read_text())
    assert (note["frames"], note["size"], note["knobs"]["scale"]) == (5, [48, 32], 4.0)
    code, _, err = vsf("generate", "--like", "clip.mp4", "--model", wan, "--out", "again.mp4")
    assert code == 0, err
    assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / "clip.mp4").read_bytes()
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "clip.json").read_bytes()


def test_a_negative_may_act_in_a_part_of_a_clip_which_is_written_down_and_repeated(
    draw, vsf, wan, tmp_path, monkeypatch
):
    times = []
    real = Places.of

    def of(mask, frames, seconds, fps, sound_strength):
        times.append((frames, seconds, fps))
        return real(mask, frames, seconds, fps, sound_strength)

    monkeypatch.setattr(Places, "of", of)
    words = ("--negative", "wheels", "--scale", 4, "--seed", 7, "--frames", 5)
    for name, when in (("seconds", ("--seconds", "0-0.0625")), ("frames", ("--frame-range", "-1"))):
        code, _, err = draw(*words, *when, "--out", f"{name}.mp4")
        assert code == 0, err
    assert times == [(None, (0.0, 0.0625), 16), ((None, 1), None, None)]  # the first frame both times
    clips = {name: (tmp_path / f"{name}.mp4").read_bytes() for name in ("seconds", "frames")}
    assert clips["seconds"] == clips["frames"]
    assert json.loads((tmp_path / "seconds.json").read_text())["seconds"] == [0, 0.0625]
    code, _, err = vsf("generate", "--like", "seconds.mp4", "--model", wan, "--out", "again.mp4")
    assert code == 0, err
    assert (tmp_path / "again.mp4").read_bytes() == clips["seconds"]


def test_a_clip_starts_from_a_picture_which_image_to_video_asks_for(vsf, tmp_path):
    tiny.image_pipeline().save_pretrained(tmp_path / "model")
    tiny.FRAME.save(tmp_path / "first.png")
    words = ("generate", "a red car", "--model", "model", "--steps", 1, "--size", "48x32", "--device", "cpu")
    words += ("--negative", "wheels", "--frames", 5, "--out", "clip.mp4")
    code, _, err = vsf(*words)
    assert (code, "give it one with --image" in err) == (2, True)
    code, _, err = vsf(*words, "--image", "first.png", "--report")
    assert code == 0, err
    assert count_frames_and_secs(tmp_path / "clip.mp4")[0] == 5
    report = json.loads((tmp_path / "clip.report.json").read_text())
    assert (report["family"], report["steps"]) == ("wan", 1)


def test_a_report_of_a_clip_shows_its_first_frame(draw, tmp_path):
    code, _, err = draw("--negative", "wheels", "--frames", 5, "--out", "clip.mp4", "--report")
    assert code == 0, err
    assert (tmp_path / "clip.heat-1.png").is_file()
    assert json.loads((tmp_path / "clip.report.json").read_text())["family"] == "wan"


def test_clips_in_a_folder_are_numbered(draw, tmp_path):
    assert draw("--frames", 1, "--count", 2, "--out", "clips")[0] == 0
    names = {path.name for path in (tmp_path / "clips").iterdir()}
    assert names == {f"a-red-car-000{number}.{kind}" for number in (1, 2) for kind in ("mp4", "json")}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--frames", 5, "--out", "clip.png"), "should end in .mp4"),
        (("--frames", 0, "--out", "clip.mp4"), "frames has to be a whole number from 1"),
        (("--frames", 6, "--out", "clip.mp4"), "ask for 5"),
        (("--out", "car.png"), "say how long with --frames"),
        (("--frames", 5, "--seconds", "2", "--out", "clip.mp4"), "--seconds has to be a start and an end, such as 2-4"),
        (("--frames", 5, "--seconds", "4-2", "--out", "clip.mp4"), "0 <= start < stop"),
        (
            ("-n", "a", "--frames", 5, "--seconds", "9-", "--out", "clip.mp4"),
            "seconds begins at 9, and the clip ends at 0.3125",
        ),
        (("--seconds", "0-1", "--out", "car.png"), "only a clip has times"),
        (("--frames", 5, "--negative-sound", "music", "--out", "clip.mp4"), "no attention layer of wan is for sound"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_code_2(draw, words, message):
    code, out, err = draw(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def test_a_missing_encoder_is_found_before_anything_is_loaded(draw, monkeypatch):
    monkeypatch.setattr(video, "find_spec", lambda _: None)
    code, _, err = draw("--frames", 5, "--out", "clip.mp4")
    assert code == 2
    assert "pip install imageio-ffmpeg" in err
