"""Negatives that name what is not in the picture."""

from dataclasses import replace

from support import judged_folder
from vsf.bench.metrics import Change, measure
from vsf.bench.run.scored import scored
from vsf.bench.suites import load as suites
from vsf.bench.suites.harmless import harmless


def test_a_harmless_negative_has_nothing_to_do_with_the_prompt():
    suite = suites.load("tiny-dev")
    pairs = harmless(suite, 50)
    assert len(pairs) == 50
    by_object = {}
    for pair in suite:
        by_object.setdefault(pair.about["object"], set()).add(pair.negative)
    for original, pair in zip(suite, pairs, strict=False):
        assert (pair.prompt, pair.id) == (original.prompt, f"{original.id}-harmless")
        assert pair.negative not in pair.prompt
        assert pair.negative not in by_object[pair.about["object"]]
        assert pair.about == {**original.about, "part": pair.negative, "kind": "harmless"}
    assert len({pair.negative for pair in pairs}) > 5


def test_more_pairs_begin_with_the_same_ones():
    suite = suites.load("essential-dev")
    assert harmless(suite, 20)[:5] == harmless(suite, 5)
    assert harmless(suite[:1], 1) == []


def test_harmless_images_count_for_their_own_score_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("vsf.bench.metrics.tiny.MODELS", ())
    pairs = [judged_folder.pair(index) for index in range(4)]
    foreign_pair = replace(pairs[0], id="sky", negative="moon", about={"object": "sky"})
    pairs += harmless([*pairs, foreign_pair], 3)
    chances = {"none": ("none", 1.0, 0.2, 0.8), "VSF": ("vsf", 0.9, 0.8, 0.8)}
    folder = judged_folder.write(tmp_path, chances, pairs, side=16, seeds=1)
    measure(folder, Change(), lambda *_: None)
    scores = [score for score in scored(folder) if score.row.label == "VSF"]
    ordinary, foreign = scores[:4], scores[4:]
    assert len(foreign) == 3
    assert all(score.harmless is None and score.change is not None for score in ordinary)
    assert all(score.positive is not None for score in ordinary)
    for score in foreign:
        assert (score.positive, score.negative, score.quality, score.change) == (None, None, None, None)
        assert score.harmless > 0
        assert score.is_complete
