"""The report of a folder of judged rows."""

import csv
import gzip
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from support import judged_folder
from vsf.bench import report
from vsf.bench.report.content import ReportOptions, gather
from vsf.bench.run import jsonl
from vsf.bench.run.rows import VERDICTS, verdicts
from vsf.bench.run.scored import scored
from vsf.errors import RequestError

CHANCES = {
    "none": ("none", 0.99, 0.2, 0.97),
    "VSF scale=1": ("vsf", 0.97, 0.45, 0.95),
    "VSF scale=2": ("vsf", 0.93, 0.7, 0.93),
    "VSF scale=3": ("vsf", 0.7, 0.9, 0.9),
    "NAG scale=4": ("nag", 0.97, 0.25, 0.95),
    "NAG scale=9": ("nag", 0.8, 0.4, 0.9),
}
PAIRS = [judged_folder.pair(index) for index in range(40)]


class Page(HTMLParser):
    """What a page shows, and every address that it would load."""

    def __init__(self, text):
        super().__init__()
        self.shown, self.addresses, self.tags, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.shown.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.shown).split())


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    judged_folder.write(root / "dev", CHANCES, PAIRS, rng=1)
    judged_folder.write(root / "test", CHANCES, PAIRS, rng=2, unscored=0.02)
    report.build(root / "test", dev=root / "dev")
    return root


def read_csv(file):
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_page_holds_all_it_shows_and_loads_nothing(folders):
    page = Page((folders / "test" / "report.html").read_text())
    assert page.open == []
    assert page.addresses
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert not {"script", "link", "iframe"} & set(page.tags)


def test_the_page_names_settings_judge_model_and_says_where_strengths_were_matched(folders):
    text = Page((folders / "test" / "report.html").read_text()).text
    for told in (
        "none",
        "VSF scale=2",
        "NAG scale=9",
        "fake 1",
        "tiny (000000000000)",
        "matched on dev prompts and frozen",
    ):
        assert told in text
    assert "flatters" not in text


def test_unscored_images_are_counted_on_the_page_and_left_out_of_the_scores(folders):
    scores = scored(folders / "test")
    unread = sum(score.positive is None for score in scores)
    assert unread > 0
    assert f"{unread} of {len(scores)} images are unscored" in Page((folders / "test" / "report.html").read_text()).text
    lines = {line["label"]: line for line in read_csv(folders / "test" / "report" / "settings.csv")}
    assert sum(int(line["unscored"]) for line in lines.values()) == unread
    for label, line in lines.items():
        by_pair = {}
        for score in scores:
            if score.row.label == label and score.negative is not None:
                by_pair.setdefault(score.row.pair, []).append(score.negative)
        means = [sum(answers) / len(answers) for answers in by_pair.values()]
        assert float(line["negative"]) == pytest.approx(sum(means) / len(means))
        assert float(line["negative_low"]) <= float(line["negative"]) <= float(line["negative_high"])


def test_methods_are_compared_where_dev_prompts_kept_the_same_positive_score(folders):
    dev = {line.label: line for line in _content(folders / "dev").settings}
    matched = {line["curve"]: line for line in read_csv(folders / "test" / "report" / "matched.csv")}
    assert list(matched) == ["none", "VSF", "NAG"]
    for curve in ("VSF", "NAG"):
        weights = [told.split(" × ") for told in matched[curve]["settings"].split(" + ")]
        assert sum(float(weight) for weight, _ in weights) == 1
        kept = sum(float(weight) * dev[label].scores.positive.mean for weight, label in weights)
        assert 0.9 <= kept <= 0.9 + (1 / 16) * 0.3
    assert float(matched["none"]["p_holm"]) < 1e-6
    assert float(matched["none"]["reference_minus_this"]) > 0.3
    assert matched["none"]["p_resamples"] == ""
    assert matched["VSF"]["p_holm"] == ""


def test_without_dev_rows_the_page_warns_that_matching_flatters(tmp_path):
    judged_folder.write(tmp_path / "run", CHANCES, PAIRS[:8])
    page = report.build(tmp_path / "run").page
    assert page == tmp_path / "run" / "report.html"
    assert "That flatters every method" in Page(page.read_text()).text
    assert "flatters" in (tmp_path / "run" / "report.md").read_text()


def test_prompts_and_reasons_that_hold_html_stay_text(tmp_path):
    evil = "<script>alert(1)</script> & \"a\" 'b' <b>"
    judged_folder.write(tmp_path, {"none": CHANCES["none"]}, [judged_folder.pair(0, prompt=evil)], reason=evil)
    page = Page(report.build(tmp_path).page.read_text())
    assert "script" not in page.tags
    assert page.text.count(evil) >= 2
    assert page.open == []


def test_labels_with_bars_and_tags_leave_markdown_tables_whole(tmp_path):
    judged_folder.write(tmp_path, {"a|b <i>": CHANCES["none"], "c": CHANCES["none"]}, PAIRS[:4])
    report.build(tmp_path)
    rows = [line for line in (tmp_path / "report.md").read_text().splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows[:4]} == {9}
    assert "<i>" not in "".join(rows)


def test_a_label_that_looks_like_a_formula_stays_text(tmp_path):
    label = r"a $\frac$ b"
    judged_folder.write(tmp_path, {label: CHANCES["none"]}, PAIRS[:4])
    assert label in Page(report.build(tmp_path).page.read_text()).text


def test_groups_split_the_scores_by_kind(folders):
    lines = [line for line in read_csv(folders / "test" / "report" / "groups.csv") if line["by"] == "kind"]
    assert {line["group"] for line in lines} == set(judged_folder.KINDS)
    kinds = {pair.id: pair.about["kind"] for pair in PAIRS}
    label = lines[0]["label"]
    for line in (line for line in lines if line["label"] == label):
        by_pair = {}
        for score in scored(folders / "test"):
            if score.row.label == label and kinds[score.row.pair] == line["group"] and score.positive is not None:
                by_pair.setdefault(score.row.pair, []).append(score.positive)
        means = [sum(answers) / len(answers) for answers in by_pair.values()]
        assert float(line["positive"]) == pytest.approx(sum(means) / len(means))
        assert int(line["pairs"]) == sum(kind == line["group"] for kind in kinds.values())


def test_groups_split_the_scores_by_object_too(folders, tmp_path):
    lines = [line for line in read_csv(folders / "test" / "report" / "groups.csv") if line["by"] == "object"]
    assert {line["group"] for line in lines} == {pair.about["object"] for pair in PAIRS}
    text = Page((folders / "test" / "report.html").read_text()).text
    assert "By kind" in text
    assert "By object" in text
    twins = [replace(pair, about={"object": f"thing {index % 2}"}) for index, pair in enumerate(PAIRS[:6])]
    judged_folder.write(tmp_path, {"none": CHANCES["none"]}, twins)
    text = Page(report.build(tmp_path).page.read_text()).text
    assert "By kind" not in text
    lines = read_csv(tmp_path / "report" / "groups.csv")
    assert [(line["by"], line["group"], line["pairs"]) for line in lines] == [
        ("object", "thing 0", "3"),
        ("object", "thing 1", "3"),
    ]


def test_charts_are_written_as_png_and_svg(folders):
    assert not (folders / "test" / "report" / "multiples.png").exists()  # three curves fit into one plot
    for name in ("positive-negative", "quality-negative"):
        assert (folders / "test" / "report" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        svg = (folders / "test" / "report" / f"{name}.svg").read_text()
        assert "<svg" in svg


def test_the_same_rows_give_the_same_files(folders, tmp_path):
    before = {file.name: file.read_bytes() for file in (folders / "test" / "report").iterdir()}
    report.build(folders / "test", dev=folders / "dev")
    assert {file.name: file.read_bytes() for file in (folders / "test" / "report").iterdir()} == before


def test_best_pictures_pass_and_worst_fail_and_chance_is_the_same_for_all(folders):
    content = _content(folders / "test")
    pairs = {pair.id: pair for pair in PAIRS}
    found = report.examples.choose(content, pairs, {"": folders / "test"})
    label = content.answer.best
    best, worst = ([entry.images[label].score for entry in entries] for entries in (found.best, found.worst))
    assert len(best) == len(worst) == 4
    assert min(map(report.examples.merit, best)) >= max(map(report.examples.merit, worst))
    assert all(list(entry.images) == ["none", label] for entry in found.best)
    assert found.labels == list(dict.fromkeys(content.shown.values()))
    for entry in found.chance:
        assert list(entry.images) == list(found.labels)
        scores = [example.score for example in entry.images.values()]
        assert len({(score.row.pair, score.row.seed) for score in scores}) == 1


def test_the_answer_names_the_best_guided_setting_and_its_lead(folders):
    content = _content(folders / "test")
    told = report.files.answer(content)
    # VSF scale=3 removes more, and keeps a positive score of .7.
    assert told.startswith("VSF scale=2 has the best negative score, of those that keep a positive score of 0.9: 0.")
    assert re.search(r"on \d+ images\. It leads VSF scale=1 by 0\.\d+ .*, p = \S+\.$", told)
    assert told in Page((folders / "test" / "report.html").read_text()).text
    assert told in (folders / "test" / "report.md").read_text()


def test_settings_that_score_alike_are_called_level(tmp_path):
    alike = {"VSF scale=1": ("vsf", 1.0, 1.0, 0.9), "NAG scale=4": ("nag", 1.0, 1.0, 0.9)}
    judged_folder.write(tmp_path, alike, PAIRS[:4])
    told = report.files.answer(report.build(tmp_path).content)
    assert told.endswith("is level with it.")
    assert "leads" not in told


def test_every_row_says_how_many_images_it_rests_on(folders):
    fixed, matched = report.files.for_people(_content(folders / "test"))
    assert [line[:2] for line in fixed.lines] == [["none", "80"]]
    assert matched.head[:3] == ("method", "n", "hypervolume")
    assert all(70 < int(line[1]) <= 80 for line in matched.lines)


def test_many_curves_leave_six_in_the_main_plot_and_stand_in_small_multiples(tmp_path):
    chances = {"none": CHANCES["none"]}
    for number in range(8):
        chances[f"M{number}"] = ("vsf" if number == 7 else "nag", 1.0, 0.1 * number if number < 7 else 0.05, 0.9)
    judged_folder.write(tmp_path, chances, PAIRS[:6])
    built = report.build(tmp_path)
    chosen = report.plots.main_curves(built.content)
    assert len(chosen) == 6
    assert {"M7", "M6", "M5"} <= set(chosen)  # the reference, however little it reaches, and those that reach most
    assert "none" not in chosen or len(chosen) == 6
    assert (tmp_path / "report" / "multiples.png").read_bytes().startswith(b"\x89PNG")


def judged_again(folder, flipped):
    """Add the verdicts of a second judge, who disagrees about the unwanted part in every so-many-th image."""
    second = []
    for number, verdict in enumerate(verdicts(folder)):
        told = verdict.negative if number % flipped else not verdict.negative
        second.append(replace(verdict, judge="second", negative=told))
    jsonl.append(folder / VERDICTS, second)


def test_a_second_judge_comes_with_its_agreement_and_every_conclusion_of_its_own(tmp_path):
    chances = {"none": CHANCES["none"], "VSF": ("vsf", 0.95, 0.8, 0.9), "NAG": ("nag", 0.95, 0.4, 0.9)}
    judged_folder.write(tmp_path, chances, PAIRS)
    judged_again(tmp_path, 10)
    built = report.build(tmp_path, judges=["fake", "second"])
    agreement, conclusions = report.files.judges_tables(built.content)
    positive, negative = agreement.lines
    assert positive == ["positive", "240", "1.000", "1.000"]
    assert negative[:3] == ["negative", "240", "0.900"]
    assert 0.6 < float(negative[3]) < 0.9
    by_label = {line[0]: line for line in conclusions.lines}
    assert by_label["none"][-3:] == ["behind", "behind", "yes"]
    assert by_label["NAG"][-3:] == ["behind", "behind", "yes"]
    assert by_label["VSF"][-1] == ""
    text = Page((tmp_path / "report.html").read_text()).text
    assert "Agreement with second" in text
    assert "Agreement with second" in (tmp_path / "report.md").read_text()


def test_several_students_are_joined_and_told_apart(tmp_path):
    chances = {"none": CHANCES["none"], "VSF": ("vsf", 0.95, 0.8, 0.9)}
    for number in range(3):
        judged_folder.write(tmp_path / f"student-{number}", chances, PAIRS[:10], rng=number)
    first, *rest = sorted(tmp_path.iterdir())
    built = report.build(first, also=rest, out=tmp_path / "out")
    assert built.content.students == 3
    assert [setting.images for setting in built.content.settings] == [60, 60]
    assert set(built.content.fixed["none"].comparison.by_student) == {"student-0", "student-1", "student-2"}
    assert "3 students" in Page(built.page.read_text()).text
    with pytest.raises(RequestError, match="different names"):
        report.build(first, also=[first], out=tmp_path / "out")


def test_large_pictures_are_made_small_before_they_go_into_the_page(tmp_path):
    judged_folder.write(tmp_path, {"none": CHANCES["none"]}, PAIRS[:1], side=600, seeds=1)
    page = report.build(tmp_path).page
    assert page.stat().st_size < 600_000
    assert any(address.startswith("data:image/jpeg") for address in Page(page.read_text()).addresses)


def test_rows_that_nobody_could_score_make_a_page_without_numbers(tmp_path):
    judged_folder.write(
        tmp_path, {"none": CHANCES["none"], "VSF scale=1": CHANCES["VSF scale=1"]}, PAIRS[:3], unscored=1.0
    )
    text = Page(report.build(tmp_path).page.read_text()).text
    assert "12 of 12 images are unscored" in text
    assert "not reached" in text
    assert read_csv(tmp_path / "report" / "settings.csv")[0]["positive"] == ""


def test_cost_adds_up_tokens_and_dollars_of_all_verdicts(tmp_path):
    judged_folder.write(tmp_path, {"none": CHANCES["none"]}, PAIRS[:5])
    text = Page(report.build(tmp_path).page.read_text()).text
    assert "10 verdicts, 1,000 tokens, $0.01" in text


def test_an_unknown_reference_is_refused_with_those_there_are(tmp_path):
    judged_folder.write(tmp_path, {"none": CHANCES["none"]}, PAIRS[:2])
    with pytest.raises(RequestError, match='no setting is called "vfs"; there are none'):
        report.build(tmp_path, reference="vfs")


def test_a_method_that_cannot_be_matched_leaves_the_comparison_to_one_that_can(tmp_path):
    chances = {"none": CHANCES["none"], "VSF strong": ("vsf", 0.2, 0.9, 0.9), "VSF quality": ("vsf", 1.0, 0.5, 0.9)}
    scores = scored(judged_folder.write(tmp_path, chances, PAIRS))
    content = gather(scores, scores, {pair.id: pair for pair in PAIRS}, ReportOptions(0.9, "", True))
    assert content.fixed_reference == "VSF strong"
    assert content.matched_reference == "VSF quality"
    assert {line.curve: line.scores is None for line in content.matched}["VSF strong"]


def test_a_method_without_dev_rows_is_refused_by_its_name(tmp_path):
    judged_folder.write(tmp_path / "dev", {"none": CHANCES["none"]}, PAIRS[:2])
    judged_folder.write(tmp_path / "test", {label: CHANCES[label] for label in ("none", "NAG scale=4")}, PAIRS[:2])
    with pytest.raises(RequestError, match='no setting of "NAG"'):
        report.build(tmp_path / "test", dev=tmp_path / "dev")


def test_a_folder_without_rows_is_refused(tmp_path):
    with pytest.raises(RequestError, match="no rows"):
        report.build(tmp_path)


def test_packed_rows_without_pictures_give_the_same_numbers(tmp_path):
    judged_folder.write(tmp_path / "whole", CHANCES, PAIRS[:8])
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "manifest.json").write_bytes((tmp_path / "whole" / "manifest.json").read_bytes())
    for name in ("rows.jsonl", "verdicts.jsonl"):
        (bare / f"{name}.gz").write_bytes(gzip.compress((tmp_path / "whole" / name).read_bytes()))
    whole, page = (report.build(folder).page for folder in (tmp_path / "whole", bare))
    assert "rows and verdicts alone" in Page(page.read_text()).text
    for file in sorted((whole.parent / "report").iterdir()):
        assert file.read_bytes() == (bare / "report" / file.name).read_bytes(), file.name


def test_a_picture_that_is_gone_is_named(tmp_path):
    judged_folder.write(tmp_path, {"none": CHANCES["none"]}, PAIRS[:1])
    for file in (tmp_path / "images").rglob("*.png"):
        file.unlink()
    with pytest.raises(RequestError, match="cannot read the picture"):
        report.build(tmp_path)


def _content(folder):
    scores = scored(folder)
    return gather(scores, scores, {pair.id: pair for pair in PAIRS}, ReportOptions(0.9, "", True))


@pytest.mark.parametrize(
    "blocked", ["report", "report.md", "report.html", "report/settings.csv", "report/quality-negative.svg"]
)
def test_a_place_that_cannot_be_written_is_named(tmp_path, blocked):
    """A folder in the place of a file, or a file in that of a folder, stops even those who may write anywhere."""
    judged_folder.write(tmp_path, {"none": CHANCES["none"]}, PAIRS[:2])
    if blocked == "report":
        (tmp_path / blocked).touch()
    else:
        (tmp_path / blocked).mkdir(parents=True)
    with pytest.raises(RequestError, match="cannot write"):
        report.build(tmp_path)
    assert not list(tmp_path.rglob("*.part"))


def test_a_report_may_go_elsewhere_and_leaves_the_folder_as_it_was(tmp_path):
    judged_folder.write(tmp_path / "run", {"none": CHANCES["none"]}, PAIRS[:2])
    before = sorted((tmp_path / "run").rglob("*"))
    built = report.build(tmp_path / "run", out=tmp_path / "deep" / "out", images=True)
    assert sorted((tmp_path / "run").rglob("*")) == before
    assert built.page == tmp_path / "deep" / "out" / "report.html"
    assert {file.name for file in (tmp_path / "deep" / "out").iterdir()} == {"report", "report.html", "report.md"}
    assert (tmp_path / "deep" / "out" / "report" / "images.jsonl").is_file()


def test_a_judge_that_never_answered_is_not_named_as_one_that_judged(tmp_path):
    judged_folder.write(tmp_path, {"none": CHANCES["none"]}, PAIRS[:2])
    dead = [replace(verdict, judge="dead", positive=None) for verdict in verdicts(tmp_path)]
    jsonl.append(tmp_path / VERDICTS, dead)
    page = report.build(tmp_path).page
    assert "dead" not in Page(page.read_text()).text
    assert "4 verdicts" in Page(page.read_text()).text


def test_the_numbers_of_a_table_are_told_by_the_names_in_its_head(folders):
    content = _content(folders / "test")
    told = report.files.as_records(report.files.settings_table(content))
    assert [line["label"] for line in told] == list(CHANCES)
    assert told[0]["positive"] == content.settings[0].scores.positive.mean
