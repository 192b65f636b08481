"""Rows joined with verdicts: unscored is None, whoever has not answered."""

import gzip
import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from vsf.bench.run import jsonl
from vsf.bench.run.rows import ROWS, VERDICTS, Row, counted_judge, rows, verdicts
from vsf.bench.run.scored import scored
from vsf.errors import RequestError
from vsf.judges.base import Verdict


def row(pair="p0", image_hash="aa", **changes):
    fields = {
        "key": f"{pair} {image_hash}",
        "pair": pair,
        "seed": 0,
        "label": "vsf",
        "method": "vsf",
        "knobs": {"scale": 2.0, "orthogonal": False, "layout": "paper", "offset": "inf"},
        "strength": 2.0,
        "steps": 8,
        "guidance_scale": 0.0,
        "schedule": {},
        "model": "tiny",
        "revision": "r",
        "image": "images/a.png",
        "image_hash": image_hash,
        "frames": 1,
        "size": (8, 8),
        "seconds": 0.5,
        "peak_memory": None,
        "host": "here",
        "device": "cpu",
        "versions": {},
    }
    return Row(**{**fields, **changes})


def verdict(pair="p0", image_hash="aa", judge="scenes", version="1", positive=True, **changes):
    fields = {"negative": False, "quality": 0.75, "reason": "a red car"}
    return Verdict(
        image_hash=image_hash, pair=pair, judge=judge, judge_version=version, positive=positive, **{**fields, **changes}
    )


def test_a_row_survives_its_file_to_the_last_field(tmp_path):
    jsonl.append(tmp_path / ROWS, [row()])
    assert rows(tmp_path) == [row()]
    assert rows(tmp_path)[0].knobs["orthogonal"] is False


def test_a_row_without_a_verdict_is_unscored(tmp_path):
    jsonl.append(tmp_path / ROWS, [row("p0"), row("p1", "bb"), row("p2", "aa")])
    jsonl.append(tmp_path / VERDICTS, [verdict("p0"), verdict("p1", "bb", positive=None, negative=None, quality=None)])
    first, second, third = scored(tmp_path)
    assert (first.positive, first.negative, first.quality, first.reason) == (True, False, 0.75, "a red car")
    assert (second.positive, second.negative, second.quality) == (None, None, None)
    assert (third.positive, third.negative, third.quality, third.reason) == (None, None, None, "not judged yet")
    row_of_third = third.row
    assert (row_of_third.pair, row_of_third.seed, row_of_third.label) == ("p2", 0, "vsf")
    assert (row_of_third.strength, row_of_third.run.seconds) == (2.0, 0.5)


def test_a_later_verdict_replaces_an_earlier_one(tmp_path):
    late = verdict(reason="now")
    jsonl.append(tmp_path / VERDICTS, [verdict(positive=None, final=False), late])
    assert verdicts(tmp_path) == [late]


def test_of_two_versions_of_a_judge_the_newest_counts(tmp_path):
    jsonl.append(tmp_path / ROWS, [row("p0"), row("p1", "bb")])
    jsonl.append(tmp_path / VERDICTS, [verdict("p0"), verdict("p1", "bb"), verdict("p0", version="2", positive=False)])
    assert [score.positive for score in scored(tmp_path)] == [False, None]


def test_of_two_judges_one_has_to_be_named(tmp_path):
    jsonl.append(tmp_path / ROWS, [row()])
    jsonl.append(tmp_path / VERDICTS, [verdict(), verdict(judge="openai:m", positive=False)])
    with pytest.raises(RequestError, match="judged by scenes, openai:m: say with --judge which"):
        scored(tmp_path)
    assert scored(tmp_path, "openai:m")[0].positive is False
    with pytest.raises(RequestError, match="not judged by local:x, but by scenes, openai:m"):
        scored(tmp_path, "local:x")


def test_a_folder_without_rows_says_what_to_do(tmp_path):
    with pytest.raises(RequestError, match=r"no rows.*vsf bench run"):
        scored(tmp_path)


def test_a_judge_without_one_usable_verdict_does_not_stand_in_the_way_of_another(tmp_path):
    jsonl.append(tmp_path / ROWS, [row()])
    dead = verdict(judge="openai:m", positive=None, negative=None, quality=None, reason="no answer: x", final=False)
    jsonl.append(tmp_path / VERDICTS, [dead, verdict()])
    assert counted_judge(tmp_path) == "scenes"
    assert [score.positive for score in scored(tmp_path)] == [True]
    assert [score.positive for score in scored(tmp_path, "openai:m")] == [None]


def test_a_judge_without_one_usable_verdict_counts_where_it_is_the_only_one(tmp_path):
    jsonl.append(tmp_path / ROWS, [row()])
    jsonl.append(tmp_path / VERDICTS, [verdict(positive=None, negative=None, quality=None, reason="refused: no")])
    assert [score.reason for score in scored(tmp_path)] == ["refused: no"]


EVIDENCE = Path(__file__).parents[2] / "benchmarks" / "evidence" / "ablations"


def test_rows_and_verdicts_of_earlier_versions_are_read_and_written_with_their_fields_and_defaults():
    for name, kind in ((ROWS, Row), (VERDICTS, Verdict)):
        lines = gzip.decompress((EVIDENCE / f"{name}.gz").read_bytes()).splitlines()
        records = jsonl.read(EVIDENCE / name, kind)
        assert len(records) == len(lines) > 500
        for line, record in zip(lines, records, strict=True):
            written = TypeAdapter(kind).dump_json(record)
            since_then = {"checks": None, "is_readable": True} if kind is Verdict else {}
            assert json.loads(written) == {**json.loads(line), **since_then}
