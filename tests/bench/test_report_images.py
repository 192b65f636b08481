"""Every image of a report on a line of its own, for whoever wants to count anew."""

import json
from dataclasses import asdict

from support import judged_folder
from vsf.bench import report
from vsf.bench.run.rows import rows, verdicts


def test_every_image_is_one_line_with_its_row_and_its_verdict(tmp_path):
    judged_folder.write(
        tmp_path,
        {"none": ("none", 0.9, 0.2, 0.9), "VSF": ("vsf", 0.9, 0.6, 0.9)},
        [judged_folder.pair(index) for index in range(4)],
        unscored=0.3,
    )
    report.build(tmp_path)
    assert not (tmp_path / "report" / "images.jsonl").exists()
    judged_folder.jsonl.append(
        tmp_path / "rows.jsonl", [rows(tmp_path)[0].model_copy(update={"image_hash": "new", "seed": 9})]
    )
    report.build(tmp_path, images=True)
    lines = [json.loads(line) for line in (tmp_path / "report" / "images.jsonl").read_text().splitlines()]
    drawn = rows(tmp_path)
    for line, row in zip(lines, drawn, strict=True):
        record = row.model_dump(mode="json")
        assert {name: line[name] for name in record} == record
    by_image = {verdict.image_hash: verdict for verdict in verdicts(tmp_path)}
    for line in lines[:-1]:
        verdict = asdict(by_image[line["image_hash"]])
        assert {name: line[name] for name in verdict} == verdict
    assert (lines[-1]["image_hash"], lines[-1]["positive"], lines[-1]["judge"]) == ("new", None, None)
