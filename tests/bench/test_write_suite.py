"""Pairs written by a language model, played by a small HTTP server that also misbehaves."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vsf.bench.run.manifest import locked
from vsf.bench.suites import load as suites
from vsf.bench.suites.load import Pair
from vsf.bench.suites.write import PairWriter, extend
from vsf.errors import RequestError

CUT_SHORT = "a text whose reply ends in the middle"
KEY = "sk-very-secret-0123456789"
SCENERY = [
    "harbour",
    "market",
    "orchard",
    "glacier",
    "workshop",
    "canyon",
    "theatre",
    "vineyard",
    "lagoon",
    "quarry",
    "station",
    "meadow",
    "attic",
    "fjord",
    "monastery",
    "bazaar",
    "prairie",
    "shipyard",
    "jungle",
    "observatory",
]


def case(number, **changed):
    """A case whose words no other case has."""
    words = " ".join(f"{SCENERY[number]}{letter}" for letter in "abcdefghijklmnopqrstuvw")
    questions = {"question_positive": f"Is there a thing{number}?", "question_negative": "Is the lid missing?"}
    return {"object": f"thing{number}", "part": "lid", "prompt": f"thing{number} {words}", **questions, **changed}


def listed(*cases):
    return json.dumps({"pairs": cases})


@pytest.fixture
def endpoint():
    """Plays its `answers` in turn, and keeps the tasks.

    A text is what a model says, a dictionary its whole message, a number a status; None hangs up.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.tasks.append(body["messages"][0]["content"])
            answer = server.answers.pop(0)
            if answer is None:
                self.connection.close()
                return
            status, content = (answer, {"error": {"message": f"bad {KEY}"}}) if isinstance(answer, int) else (200, {})
            if status == 200:
                message = {"role": "assistant", "content": answer} if isinstance(answer, str) else answer
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                content = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
            text = json.dumps(content).encode()[: 9 if answer == CUT_SHORT else None]
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answers, server.tasks = [], []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def author(endpoint, **changed):
    url = f"http://127.0.0.1:{endpoint.server_port}/v1"
    return PairWriter(**{"model": "m", "endpoint": url, "key": KEY, "batch": 3, "pause": 0.001, **changed})


def test_batches_are_asked_for_until_there_are_enough_and_the_file_is_a_suite(endpoint, tmp_path):
    endpoint.answers = [listed(case(0), case(1), case(2)), listed(case(3), case(4), case(5))]
    told = []
    pairs = extend(tmp_path / "deep" / "mine.jsonl", 5, author(endpoint), progress=lambda *now: told.append(now))
    assert [pair.about["object"] for pair in pairs] == [f"thing{number}" for number in range(5)]
    assert suites.load(tmp_path / "deep" / "mine.jsonl") == pairs
    assert pairs[4].id == "mine-005"
    assert told == [(0, 5), (3, 5), (5, 5)]
    assert "thing1" not in endpoint.tasks[0]
    assert "thing0, thing1, thing2" in endpoint.tasks[1]


def test_a_busy_endpoint_and_replies_that_do_not_get_through_are_tried_again(endpoint, tmp_path):
    endpoint.answers = [429, None, CUT_SHORT, 500, listed(case(0))]
    assert len(extend(tmp_path / "a.jsonl", 1, author(endpoint))) == 1


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "{",
        "[]",
        '{"pairs": 3}',
        '{"pairs": [{"object": "x"}]}',
        "sorry, no",
        {},
        {"content": [1]},
        '{"pairs": [{"object": "\\ud800"}]}',
    ],
)
def test_a_malformed_answer_costs_a_request_and_nothing_else(endpoint, tmp_path, malformed):
    endpoint.answers = [malformed, listed(case(0))]
    assert len(extend(tmp_path / "a.jsonl", 1, author(endpoint))) == 1


def test_json_between_fences_counts_and_so_do_the_complete_cases_beside_a_broken_one(endpoint, tmp_path):
    endpoint.answers = [f"Here you are:\n```json\n{listed(case(0), {'object': 'x'}, case(1))}\n```"]
    assert len(extend(tmp_path / "a.jsonl", 2, author(endpoint))) == 2


def test_pairs_that_are_known_name_their_part_or_have_the_wrong_length_are_dropped(endpoint, tmp_path):
    known = Pair("k", case(0)["prompt"], "handle", "?", "?")
    named, short = case(1, part="market"), case(2, prompt="too short")
    long = case(3, prompt=case(3)["prompt"] + " word" * 30)
    endpoint.answers = [listed(case(0), named, short, long, case(4), case(4))]
    assert [pair.about["object"] for pair in extend(tmp_path / "a.jsonl", 1, author(endpoint), [known])] == ["thing4"]


def test_a_model_that_repeats_itself_is_given_up_and_its_pairs_are_kept(endpoint, tmp_path):
    endpoint.answers = [listed(case(0)) for _ in range(6)]
    with pytest.raises(RequestError, match="1 of 2 are kept"):
        extend(tmp_path / "a.jsonl", 2, author(endpoint))
    assert len(suites.load(tmp_path / "a.jsonl")) == 1


def test_a_stopped_call_goes_on_behind_the_last_whole_line(endpoint, tmp_path):
    file = tmp_path / "a.jsonl"
    endpoint.answers = [listed(case(0), case(1)), 401]
    with pytest.raises(RequestError):
        extend(file, 4, author(endpoint))
    with file.open("a") as stream:
        stream.write('{"id": "a-003", "prom')
    endpoint.answers = [listed(case(1), case(2), case(3))]
    pairs = extend(file, 4, author(endpoint))
    assert [pair.about["object"] for pair in pairs] == ["thing0", "thing1", "thing2", "thing3"]
    assert suites.load(file) == pairs


def test_a_finished_suite_asks_the_model_for_nothing(endpoint, tmp_path):
    endpoint.answers = [listed(case(0))]
    extend(tmp_path / "a.jsonl", 1, author(endpoint))
    assert len(extend(tmp_path / "a.jsonl", 1, author(endpoint))) == 1
    assert len(endpoint.tasks) == 1


@pytest.mark.parametrize("answers", [[401], [404], [429, 429], [None, None]])
def test_no_error_shows_the_key(endpoint, tmp_path, answers):
    endpoint.answers = answers
    with pytest.raises(RequestError) as caught:
        extend(tmp_path / "a.jsonl", 1, author(endpoint, attempts=2))
    assert KEY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert KEY not in repr(author(endpoint))


def test_a_key_that_the_model_repeats_is_not_written_down(endpoint, tmp_path):
    endpoint.answers = [listed(case(0, question_positive=f"Is {KEY} there?"))]
    (pair,) = extend(tmp_path / "a.jsonl", 1, author(endpoint))
    assert pair.question_positive == "Is *** there?"
    assert KEY not in (tmp_path / "a.jsonl").read_text()


@pytest.mark.parametrize(("count", "batch"), [(0, 3), (3, 0)])
def test_no_pairs_at_all_cannot_be_asked_for(endpoint, tmp_path, count, batch):
    with pytest.raises(RequestError, match="at least 1"):
        extend(tmp_path / "a.jsonl", count, author(endpoint, batch=batch))


def test_a_second_call_is_kept_out_of_a_file_that_is_being_written(endpoint, tmp_path):
    """Both would count their ids on from the same line, and the suite could not be loaded any more."""
    file = tmp_path / "mine.jsonl"
    with locked(tmp_path / ".mine.jsonl.lock", "mine", "wait"), pytest.raises(RequestError, match="another run is at"):
        extend(file, 1, author(endpoint))
    endpoint.answers = [listed(case(0))]
    assert len(extend(file, 1, author(endpoint))) == 1


def test_openai_itself_is_not_asked_without_a_key(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(RequestError, match=r"no API key for api\.openai\.com.*--key-env"):
        PairWriter("m")
    PairWriter("m", "http://localhost:8000/v1")
