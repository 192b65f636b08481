"""Judges by name, and what they have in common."""

import pytest

from vsf.errors import RequestError, UnknownNameError
from vsf.judges.registry import JUDGES, Options


@pytest.mark.parametrize("name", JUDGES)
def test_every_judge_says_who_it_is_and_shows_no_key(name):
    judge = JUDGES[name](Options(model="m", endpoint="http://localhost:1/v1", key="sk-secret"))
    assert judge.name.startswith(name)
    assert judge.version
    assert judge.batch >= 1
    assert isinstance(judge.waits, bool)
    assert "sk-secret" not in repr(judge)
    assert "sk-secret" not in repr(Options(key="sk-secret"))


@pytest.mark.parametrize("name", ["openai", "local"])
def test_a_language_model_has_to_be_named(name):
    with pytest.raises(RequestError, match="--judge-model"):
        JUDGES[name](Options())


def test_an_unknown_judge_is_named():
    with pytest.raises(UnknownNameError, match=r'unknown judge "scene".*Did you mean "scenes"'):
        JUDGES["scene"]
