"""A judge behind a network that misbehaves: nothing is guessed, nothing is paid for twice, no key is shown."""

import base64
import io
import traceback

import pytest
from PIL import Image

from support import fake_endpoint as fake
from vsf.engines import Threads
from vsf.errors import RequestError
from vsf.judges import openai as module
from vsf.judges import wording
from vsf.judges.base import Case
from vsf.judges.openai import OpenAIJudge

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def cases(tmp_path):
    made = []
    for index in range(6):
        file = tmp_path / f"{index}.png"
        Image.new("RGB", (8, 8), (index, 0, 0)).save(file)
        made.append(Case(file, "a red car", "wheels", "Is there a car?", "Are there no wheels?"))
    return made


def judge(endpoint, **changes):
    settings = {"key": KEY, "attempts": 3, "pause": 0.001, "timeout": 0.5}
    return OpenAIJudge("model-x", endpoint.url, **{**settings, **changes})


def test_one_call_carries_the_image_the_questions_and_the_form_of_the_answer(cases):
    with fake.serving() as endpoint:
        (verdict,) = judge(endpoint, prices=(1.0, 2.0))(cases[:1])
    assert (verdict.positive, verdict.negative, verdict.quality) == (True, True, 0.75)
    assert verdict.reason == "a red car without wheels"
    assert verdict.tokens == 1000
    assert verdict.cost == pytest.approx((900 * 1.0 + 100 * 2.0) / 1e6)
    (call,) = endpoint.calls
    assert call["model"] == "model-x"
    assert call["response_format"]["json_schema"]["schema"] == wording.SCHEMA
    text, picture = call["messages"][0]["content"]
    assert text["text"] == wording.task(cases[0])
    sent = base64.b64decode(picture["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(sent)).getpixel((0, 0)) == (0, 0, 0)
    assert endpoint.headers[0]["authorization"] == f"Bearer {KEY}"


PASSING = {
    "rate limit": fake.limited(),
    "rate limit without a time": fake.fails(429, "slow down"),
    "inner trouble": fake.breaks,
    "dropped connection": fake.drops,
    "timeout": fake.sleeps(2.0),
    "JSON cut short": fake.no_json,
    "a web page": fake.web_page,
}


@pytest.mark.parametrize("trouble", PASSING.values(), ids=PASSING)
def test_trouble_that_passes_is_waited_out(cases, trouble):
    with fake.serving([trouble, trouble]) as endpoint:
        (verdict,) = judge(endpoint)(cases[:1])
    assert verdict.positive is True
    assert len(endpoint.calls) == 3


@pytest.mark.parametrize("trouble", PASSING.values(), ids=PASSING)
def test_trouble_that_does_not_pass_is_unscored_and_may_be_asked_again(cases, trouble):
    with fake.serving([trouble] * 2) as endpoint:
        (verdict,) = judge(endpoint, attempts=2)(cases[:1])
        assert (verdict.positive, verdict.negative, verdict.quality, verdict.final) == (None, None, None, False)
        assert verdict.reason.startswith("no answer: ")
        assert judge(endpoint)(cases[:1])[0].positive is True


def test_the_pause_is_as_long_as_the_endpoint_asks_for(cases):
    with fake.serving([fake.limited("0.4")]) as endpoint:
        judge(endpoint)(cases[:1])
    assert endpoint.times[1] - endpoint.times[0] >= 0.4


UNREADABLE = {
    "refusal": (fake.refuses, "refused: I would rather not."),
    "malformed": (fake.malformed, "malformed answer: "),
    "no choices": (fake.mangled(choices=[]), "malformed answer: no choices"),
    "choices of another kind": (fake.mangled(choices={"a": 1}), "malformed answer: no choices"),
    "no choice": (fake.mangled(choices=[None]), "malformed answer: no choices"),
    "an empty choice": (fake.mangled(choices=[{}]), "malformed answer: no choices"),
    "no message": (fake.mangled(choices=[{"message": None}]), "malformed answer: no choices"),
    "a message of parts": (fake.mangled(choices=[{"message": {"content": [1]}}]), "malformed answer: no choices"),
    "an empty message": (fake.mangled(choices=[{"message": {}}]), "malformed answer: "),
    "nothing but an error": (lambda: (200, {"error": {"message": "busy"}}, {}), "malformed answer: no choices"),
    "a list": (lambda: (200, [1, 2], {}), "malformed answer: no choices"),
    "refused image": (fake.fails(400, "image is too odd"), "refused: "),
}


@pytest.mark.parametrize(("answer", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_an_answer_that_is_none_is_unscored_and_final(cases, answer, reason):
    with fake.serving([answer]) as endpoint:
        (verdict,) = judge(endpoint)(cases[:1])
        assert len(endpoint.calls) == 1
    assert (verdict.positive, verdict.negative, verdict.quality, verdict.final) == (None, None, None, True)
    assert verdict.reason.startswith(reason)


UNCOUNTED = [None, {}, {"prompt_tokens": None}, [1], {"total_tokens": "many"}, {"cost": "nan"}]


@pytest.mark.parametrize("usage", UNCOUNTED, ids=str)
def test_an_answer_counts_where_the_endpoint_does_not_say_what_it_used(cases, usage):
    with fake.serving([fake.mangled(usage=usage)]) as endpoint:
        (verdict,) = judge(endpoint, prices=(1.0, 2.0))(cases[:1])
    assert (verdict.positive, verdict.tokens, verdict.cost) == (True, None, None)


HOPELESS = {
    "wrong key": fake.fails(401, f"no such key: {KEY}"),
    "no right": fake.fails(403, "not yours"),
    "no such model": fake.fails(404, "no model model-x"),
    "no money": fake.fails(429, "pay first", "insufficient_quota"),
}


@pytest.mark.parametrize("answer", HOPELESS.values(), ids=HOPELESS)
def test_what_fails_for_every_image_ends_the_run_at_once(cases, answer):
    with fake.serving(otherwise=answer) as endpoint, pytest.raises(RequestError, match="refuses every call"):
        judge(endpoint)(cases)
    assert len(endpoint.calls) == 1


def test_an_endpoint_that_never_answers_is_given_up(cases, monkeypatch):
    monkeypatch.setattr(module, "HOPELESS", 4)
    with (
        fake.serving(otherwise=fake.breaks) as endpoint,
        pytest.raises(RequestError, match="4 calls and not one answer"),
    ):
        judge(endpoint, attempts=1)(cases)
    assert len(endpoint.calls) == 4
    script = [fake.good, *[fake.breaks] * 5]
    with fake.serving(script) as endpoint:
        verdicts = judge(endpoint, attempts=1)(cases)
    assert [verdict.positive for verdict in verdicts] == [True, *[None] * 5]


def test_the_key_appears_in_no_reason_no_error_and_no_traceback(cases, tmp_path):
    leaks = [fake.fails(400, f"bad request with {KEY}"), lambda: (200, fake.answered(f"not JSON but {KEY}"), {})]
    with fake.serving(leaks) as endpoint:
        asked = judge(endpoint, cache=tmp_path / "answers")
        verdicts = asked(cases[:2])
    assert KEY not in repr(verdicts) + repr(asked)
    assert "***" in verdicts[0].reason
    with fake.serving(otherwise=HOPELESS["wrong key"]) as endpoint:
        with pytest.raises(RequestError) as caught:
            judge(endpoint)(cases)
        assert KEY not in "".join(traceback.format_exception(caught.value))
    assert not any(KEY.encode() in file.read_bytes() for file in tmp_path.rglob("*.json"))


def test_an_answer_is_paid_for_once(cases, tmp_path):
    cache = tmp_path / "answers"
    with fake.serving([fake.refuses]) as endpoint:
        first = judge(endpoint, cache=cache, prices=(1.0, 1.0))(cases[:2])
        again = judge(endpoint, cache=cache, prices=(1.0, 1.0))(cases[:2])
        assert len(endpoint.calls) == 3  # a refusal is asked again, an answer is not
        assert again[1] == first[1]
        assert again[1].cost == 0.001
        OpenAIJudge("model-y", endpoint.url, KEY, cache=cache)(cases[1:2])
        other = Case(cases[1].file, "a red car", "doors", "Is there a car?", "Are there no doors?")
        judge(endpoint, cache=cache)([other])
        judge(endpoint, cache=cache)(cases[2:3])
        assert len(endpoint.calls) == 6


def test_a_damaged_entry_of_the_cache_is_asked_for_again(cases, tmp_path):
    with fake.serving() as endpoint:
        judge(endpoint, cache=tmp_path / "answers")(cases[:1])
        (file,) = (tmp_path / "answers").rglob("*.json")
        file.write_text("{")
        assert judge(endpoint, cache=tmp_path / "answers")(cases[:1])[0].positive is True
        assert len(endpoint.calls) == 2


def test_a_cost_that_the_endpoint_reports_is_taken_as_it_is(cases):
    priced = fake.answered()
    priced["usage"]["cost"] = 0.125
    with fake.serving([lambda: (200, priced, {})]) as endpoint:
        assert judge(endpoint)(cases[:1])[0].cost == 0.125
        assert judge(endpoint)(cases[:1])[0].cost is None


def test_several_calls_are_under_way_at_a_time_and_no_more_than_asked_for(cases):
    with fake.serving(otherwise=fake.sleeps(0.1)) as endpoint:
        asked = judge(endpoint, timeout=5.0)
        found = list(Threads(3).map(asked, [[case] for case in cases]))
    assert len(found) == 6
    assert endpoint.busiest == 3


def test_openai_itself_is_not_asked_without_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(RequestError, match=r"no API key for api\.openai\.com.*OPENAI_API_KEY.*--key-env.*--endpoint"):
        OpenAIJudge("m")
    OpenAIJudge("m", key="sk-1")
    OpenAIJudge("m", "http://localhost:8000/v1")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:8000/v1")
    OpenAIJudge("m")
