"""Judges by name, and what they have in common."""

from dataclasses import fields

import pytest

from vsf.errors import RequestError, UnknownNameError
from vsf.judges.base import JudgeOptions
from vsf.judges.registry import JUDGES

SETTINGS = {"judge_model": "m", "endpoint": "http://localhost:1/v1", "key_env": "MY_KEY"}


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret")


@pytest.mark.parametrize("name", JUDGES)
def test_every_judge_says_who_it_is_and_shows_no_key(name):
    known = {field.name for field in fields(JUDGES[name])}
    options = JUDGES[name](**{option: value for option, value in SETTINGS.items() if option in known})
    judge = options.judge()
    assert judge.name.startswith(name)
    assert judge.version
    assert judge.batch >= 1
    assert isinstance(judge.waits, bool)
    assert "sk-secret" not in repr(judge)
    assert "sk-secret" not in repr(options)


@pytest.mark.parametrize("name", JUDGES)
def test_every_option_of_a_judge_has_a_help_text_and_a_default(name):
    assert issubclass(JUDGES[name], JudgeOptions)
    JUDGES[name]()
    assert all(field.metadata["help"] for field in fields(JUDGES[name]))


@pytest.mark.parametrize("name", ["openai", "local"])
def test_a_language_model_has_to_be_named(name):
    with pytest.raises(RequestError, match="--judge-model"):
        JUDGES[name]().judge()


def test_an_unknown_judge_is_named():
    with pytest.raises(UnknownNameError, match=r'unknown judge "scene".*Did you mean "scenes"'):
        JUDGES["scene"]
