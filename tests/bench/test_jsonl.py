"""What was written survives; what was not finished does not count."""

import errno
import gzip
import os

import pytest
from pydantic import BaseModel

from vsf.bench.run import jsonl
from vsf.errors import RequestError


class Note(BaseModel):
    text: str
    number: float | None = None


NOTES = [Note(text="a"), Note(text="b\nc", number=0.1)]


def test_records_are_read_back_in_order(tmp_path):
    file = tmp_path / "notes.jsonl"
    jsonl.append(file, NOTES)
    jsonl.append(file, [Note(text="d")])
    assert jsonl.read(file, Note) == [*NOTES, Note(text="d")]


def test_a_file_that_is_not_there_holds_no_records(tmp_path):
    assert jsonl.read(tmp_path / "none.jsonl", Note) == []


def test_packed_records_are_read_and_never_added_to(tmp_path):
    file = tmp_path / "notes.jsonl"
    jsonl.append(file, NOTES)
    jsonl.packed(file).write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    assert jsonl.read(file, Note) == NOTES
    with pytest.raises(RequestError, match="gunzip"):
        jsonl.append(file, NOTES)
    assert not file.exists()
    jsonl.packed(file).write_bytes(b"torn")
    with pytest.raises(RequestError, match="cannot read"):
        jsonl.read(file, Note)


def test_a_last_line_cut_anywhere_does_not_count_and_is_gone_after_the_next_write(tmp_path):
    whole = tmp_path / "whole.jsonl"
    jsonl.append(whole, NOTES)
    content = whole.read_bytes()
    first = content.index(b"\n") + 1
    for cut in range(first, len(content)):
        file = tmp_path / f"{cut}.jsonl"
        file.write_bytes(content[:cut])
        assert jsonl.read(file, Note) == NOTES[:1]
        jsonl.append(file, [NOTES[1]])
        assert file.read_bytes() == content


def test_a_torn_first_line_longer_than_a_block_is_repaired_too(tmp_path):
    file = tmp_path / "notes.jsonl"
    jsonl.append(file, NOTES[:1])
    with file.open("ab") as stream:
        stream.write(b'{"text":"' + b"x" * 200_000)
    jsonl.append(file, NOTES[1:])
    assert jsonl.read(file, Note) == NOTES


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    file = tmp_path / "notes.jsonl"
    file.write_text('{"text":"a"}\n{"text":\n{"text":"b"}\n')
    with pytest.raises(RequestError, match=r"line 2 of .*notes\.jsonl. is damaged"):
        jsonl.read(file, Note)


def test_after_a_full_disk_the_file_is_as_before(tmp_path, monkeypatch):
    file = tmp_path / "notes.jsonl"
    jsonl.append(file, NOTES)

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RequestError, match=r"No space left on device\. Everything finished before is kept"):
            jsonl.append(file, [Note(text="lost")])
        with pytest.raises(RequestError, match="No space left"):
            jsonl.write(tmp_path / "image.png", b"content")
    assert jsonl.read(file, Note) == NOTES
    assert not (tmp_path / "image.png").exists()


def test_a_file_is_replaced_as_a_whole(tmp_path):
    file = tmp_path / "deep" / "image.png"
    jsonl.write(file, b"one")
    jsonl.write(file, b"two")
    assert file.read_bytes() == b"two"
    assert [path.name for path in file.parent.iterdir()] == ["image.png"]
