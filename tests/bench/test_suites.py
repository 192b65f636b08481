"""The suites that come with the package, and the files that a user brings."""

import hashlib
import itertools
import json
import re
from collections import Counter

import pytest

from vsf.bench.suites import load as suites
from vsf.bench.suites.load import Pair
from vsf.bench.suites.near_duplicates import NearDuplicates, named
from vsf.errors import RequestError
from vsf.tiny.scenes import is_held_out

SIZES = {
    "tiny-dev": 200,
    "tiny-test": 1000,
    "essential-dev": 80,
    "essential-test": 200,
    "ordinary-test": 100,
    "anti-aesthetic": 40,
    "same-noun": 30,
}


def test_every_suite_is_shipped_with_at_least_its_size():
    assert suites.names() == sorted(SIZES)
    assert {name: len(suites.load(name)) >= size for name, size in SIZES.items()} == dict.fromkeys(SIZES, True)


@pytest.mark.parametrize("name", SIZES)
def test_every_pair_is_complete_and_named_after_its_suite(name):
    for number, pair in enumerate(suites.load(name), 1):
        assert re.fullmatch(rf"{name}-0*{number}", pair.id)
        assert pair.question_positive.endswith("?")
        assert pair.question_negative.endswith("?")
        assert pair.about["object"]
        assert pair.prompt == " ".join(pair.prompt.split())


@pytest.mark.parametrize("name", sorted(set(SIZES) - {"same-noun"}))
def test_a_prompt_never_names_what_its_negative_asks_away(name):
    told = [(pair.id, word) for pair in suites.load(name) if (word := named(pair.negative, pair.prompt))]
    assert told == []


def test_a_prompt_of_the_same_noun_suite_names_it_as_a_word():
    assert all(pair.negative in pair.prompt.split() for pair in suites.load("same-noun"))


def test_detailed_prompts_have_20_to_45_words():
    lengths = {len(pair.prompt.split()) for name in ("essential-dev", "essential-test") for pair in suites.load(name)}
    assert min(lengths) >= 20
    assert max(lengths) <= 45


def test_essential_pairs_ask_over_a_hundred_different_parts_away_and_dev_shares_none_with_test():
    subjects = {
        name: [(pair.about["object"], pair.negative) for pair in suites.load(name)]
        for name in ("essential-dev", "essential-test")
    }
    assert len(set(subjects["essential-test"])) >= 100
    assert not set(subjects["essential-dev"]) & set(subjects["essential-test"])


def test_essential_prompts_hold_no_near_duplicates_within_or_across_dev_and_test():
    known_pairs = NearDuplicates()
    for pair in [*suites.load("essential-dev"), *suites.load("essential-test")]:
        assert known_pairs.find(pair) is None, (pair, known_pairs.find(pair))
        known_pairs.add(pair)


def test_other_written_suites_repeat_no_prompt():
    for name in ("ordinary-test", "anti-aesthetic", "same-noun"):
        assert max(Counter(pair.prompt for pair in suites.load(name)).values()) == 1


def test_tiny_test_holds_combinations_never_trained_on_and_tiny_dev_none_of_them():
    def held_out(pair):
        return is_held_out(pair.about["object"], pair.negative, pair.about["colour"], pair.about["background"])

    assert all(held_out(pair) for pair in suites.load("tiny-test"))
    assert not any(held_out(pair) for pair in suites.load("tiny-dev"))


def test_both_tiny_splits_mix_the_kinds_of_prompt_alike():
    def shares(name):
        pairs = suites.load(name)
        told = Counter(
            re.sub(r".* with ", "", pair.prompt).count(" and ") if " with " in pair.prompt else -1 for pair in pairs
        )
        return [told[kind] / len(pairs) for kind in (-1, 0, 1)]

    assert shares("tiny-dev") == pytest.approx(shares("tiny-test"), abs=0.02)


def test_the_authors_fields_are_read_from_a_list_and_ids_are_given(tmp_path):
    file = tmp_path / "theirs.json"
    theirs = {"prompt": "a bike in a yard", "missing_element": "wheels", "question_1": "Bike?", "question_2": "None?"}
    file.write_text(json.dumps([theirs, {**theirs, "prompt": "a cart", "note": "ignored"}]))
    assert suites.load(file) == [
        Pair("theirs-001", "a bike in a yard", "wheels", "Bike?", "None?"),
        Pair("theirs-002", "a cart", "wheels", "Bike?", "None?"),
    ]


def test_a_file_may_begin_with_a_byte_order_mark_and_number_its_pairs(tmp_path):
    file = tmp_path / "theirs.json"
    theirs = {"id": 7, "prompt": "a bike", "missing_element": "wheels", "question_1": "Bike?", "question_2": "None?"}
    file.write_text(json.dumps([theirs]), encoding="utf-8-sig")
    assert suites.load(file) == [Pair("7", "a bike", "wheels", "Bike?", "None?")]


def test_json_lines_are_read_with_blank_lines_and_line_separators_inside_a_text(tmp_path):
    file = tmp_path / "mine.jsonl"
    entry = {"id": "x", "prompt": "a\u2028b", "negative": "c", "question_positive": "p?", "question_negative": "n?"}
    file.write_text("\n" + json.dumps(entry, ensure_ascii=False) + "\n\n", encoding="utf-8")
    assert suites.load(str(file)) == [Pair("x", "a\u2028b", "c", "p?", "n?")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"prompt": "a", "negative": "b", "question_positive": "c"}', "line 1.*question_negative"),
        ('{"prompt": "", "negative": "b", "question_positive": "c", "question_negative": "d"}', "line 1.*prompt"),
        ("not json", "line 1"),
        ("[1, 2]", "not valid"),
        ("[", "not valid"),
        ("", "empty"),
        ("[]", "empty"),
    ],
)
def test_a_file_that_is_no_suite_is_refused_with_the_place(tmp_path, text, told):
    file = tmp_path / "bad.jsonl"
    file.write_text(text)
    with pytest.raises(RequestError, match=told):
        suites.load(file)


def test_two_pairs_of_one_id_are_refused(tmp_path):
    file = tmp_path / "twice.jsonl"
    line = json.dumps({"id": "x", "prompt": "a", "negative": "b", "question_positive": "c", "question_negative": "d"})
    file.write_text(f"{line}\n{line}\n")
    with pytest.raises(RequestError, match='"x" more than once'):
        suites.load(file)


def test_an_unknown_name_is_answered_with_those_known():
    with pytest.raises(RequestError, match="essential-test"):
        suites.load("esential-test")


def test_bytes_that_are_no_text_are_refused(tmp_path):
    file = tmp_path / "bytes.jsonl"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match="cannot read"):
        suites.load(file)


@pytest.mark.parametrize(
    ("negative", "prompt", "word"),
    [
        ("wheels", "a bike with one Wheel", "wheels"),
        ("wheel", "two wheels", "wheel"),
        ("handle", "a broken doorhandle", None),
        ("book", "a bookcase", "book"),
        ("fin", "a fine day", None),
        ("fins", "a fin", "fins"),
        ("glass", "a glasshouse", "glass"),
        ("back plates", "seen from the back", "back"),
        ("wheels", "a bike in a yard", None),
    ],
)
def test_a_named_part_is_found_in_singular_plural_and_at_the_front_of_a_compound(negative, prompt, word):
    assert named(negative, prompt) == word


def test_prompts_that_say_nearly_the_same_are_alike_and_others_are_not():
    def pair(prompt, part="wheels", **about):
        return Pair("x", prompt, part, "?", "?", about)

    known = pair("an old tractor resting in a ploughed field under heavy autumn clouds", object="tractor")
    known_pairs = NearDuplicates([known])
    assert known_pairs.find(pair("an old tractor standing in a ploughed field under heavy autumn clouds")) is known
    assert known_pairs.find(pair("a racing car", object="Tractor")) is known
    assert known_pairs.find(pair("a racing car", part="roof", object="tractor")) is None
    assert known_pairs.find(pair("a cat asleep on the windowsill of a bakery, pencil drawing")) is None
    assert all(known_pairs.find(pair(a)) is None for a, _ in itertools.pairwise(["", "a b c", ""]))


def test_every_suite_has_a_card_with_its_licence_version_and_hash():
    cards = suites.cards()
    assert sorted(cards) == suites.names()
    for name, card in cards.items():
        # A changed suite needs a new version and its new hash in cards.toml.
        assert hashlib.sha256(suites.shipped(name).read_bytes()).hexdigest() == card.sha256, name
        assert card.licence == "MIT"
