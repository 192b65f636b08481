"""A language model on this machine: asked in the same words, and never believed beyond what it wrote."""

import json

import pytest
import torch
from PIL import Image
from transformers import BatchFeature

from support import tiny_vlm as tiny_seer
from vsf.errors import RequestError
from vsf.judges import local, wording
from vsf.judges.base import Case
from vsf.judges.local import LocalJudge

GOOD = {"reason": "a car", "positive": True, "negative": True, "quality": 0.5, "rest": True}
PROMPT = [5, 6, 7]


class Processor:
    """One token per letter; the prompt is three tokens, whatever it says."""

    def apply_chat_template(self, messages, **settings):
        self.messages, self.settings = messages, settings
        return BatchFeature({"input_ids": torch.tensor([PROMPT])})

    def decode(self, tokens, skip_special_tokens):
        assert skip_special_tokens
        return "".join(chr(int(token)) for token in tokens)


class Model:
    device = "cpu"

    def __init__(self, text):
        self.text = text

    def generate(self, input_ids, max_new_tokens, do_sample):
        assert (max_new_tokens, do_sample) == (local.LONGEST_ANSWER, False)
        return torch.cat([input_ids, torch.tensor([[ord(letter) for letter in self.text]])], 1)


@pytest.fixture
def case(tmp_path):
    Image.new("RGB", (8, 8), (9, 0, 0)).save(tmp_path / "a.png")
    return Case(tmp_path / "a.png", "a red car", "wheels", "Is there a car?", "Are there no wheels?")


def judge(text):
    made = LocalJudge("owner/model")
    made._loaded = Processor(), Model(text)
    return made


def test_the_model_sees_the_image_and_the_words_and_its_answer_alone_is_read(case):
    asked = judge(json.dumps(GOOD))
    (verdict,) = asked([case])
    assert (verdict.positive, verdict.negative, verdict.quality, verdict.reason) == (True, True, 0.5, "a car")
    assert verdict.tokens == len(PROMPT) + len(json.dumps(GOOD))
    picture, text = asked._loaded[0].messages[0]["content"]
    assert picture["image"].getpixel((0, 0)) == (9, 0, 0)
    assert text["text"] == wording.task(case)
    assert asked._loaded[0].settings["add_generation_prompt"] is True


def test_babble_is_unscored(case):
    (verdict,) = judge("yes yes yes")([case])
    assert (verdict.positive, verdict.negative, verdict.quality) == (None, None, None)
    assert verdict.reason.startswith("malformed answer")


def test_a_model_that_is_not_there_is_a_request_error(case, tmp_path):
    with pytest.raises(RequestError, match="cannot load the judge"):
        LocalJudge(str(tmp_path))([case])


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_not_there_is_a_request_error(case, tmp_path):
    tiny_seer.save(tmp_path / "seer")
    with pytest.raises(RequestError, match='device "cuda" cannot be used here'):
        LocalJudge(str(tmp_path / "seer"), "cuda")([case])


def test_a_model_that_takes_no_conversation_is_a_request_error(case, tmp_path):
    tiny_seer.save(tmp_path / "seer")
    (tmp_path / "seer" / "chat_template.jinja").unlink()
    with pytest.raises(RequestError, match=r"cannot be asked about an image: .*chat template"):
        LocalJudge(str(tmp_path / "seer"))([case])


def test_a_device_that_is_too_small_is_a_request_error(case):
    asked = judge("")

    def full(**inputs):
        raise torch.OutOfMemoryError

    asked._loaded[1].generate = full
    with pytest.raises(RequestError, match='"owner/model" is too large for this device'):
        asked([case])


def test_the_name_shows_no_path_and_the_version_follows_the_weights(tmp_path):
    folder = tmp_path / "seer"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"one")
    first = LocalJudge(str(folder))
    (folder / "model.safetensors").write_bytes(b"two")
    assert first.name == "local:seer"
    assert first.version != LocalJudge(str(folder)).version


def test_a_model_of_random_weights_runs_end_to_end_and_its_babble_is_unscored(case, tmp_path):
    tiny_seer.save(tmp_path / "seer")
    asked = LocalJudge(str(tmp_path / "seer"))
    first, again = asked([case]), asked([case])
    assert first == again
    assert (first[0].positive, first[0].negative, first[0].quality) == (None, None, None)
    assert first[0].reason.startswith("malformed answer")
    assert first[0].tokens > len(wording.task(case).encode()) + local.LONGEST_ANSWER
