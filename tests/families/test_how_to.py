"""The page that adds a family: its code is run, and what it adds is held to what every family is."""

import json
import re
from pathlib import Path

import diffusers
import pytest
import torch

import vsf
from families.harness import OFF, STRONG, difference
from support import tiny_pipelines as tiny
from vsf.cli.doctor.inspect_model import inspect_model
from vsf.families import FAMILIES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/add-a-family.md").read_text()
FAMILY, TEST = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def case(monkeypatch):
    """The page's case, with its family registered."""
    code = {"__name__": "allegro"}
    exec(compile(FAMILY, "add-a-family.md", "exec"), code)
    monkeypatch.setitem(FAMILIES._entries, "allegro", code["Allegro"]())
    test = {}
    exec(compile(TEST, "add-a-family.md", "exec"), test)
    return test["CASES"][0]


def test_the_family_of_the_page_is_the_one_in_the_package_and_has_under_fifty_lines():
    assert (ROOT / "src/vsf/families/allegro.py").read_text() == FAMILY
    assert len(FAMILY.splitlines()) < 50


def test_the_family_of_the_page_agrees_with_the_oracle(case):
    text, negative, model = case.text(), case.text(case.negative, seed=100), case.model()
    with vsf.guide(model, negative=vsf.Negative((negative[0],)), method=STRONG, observe=True) as report:
        assert difference(case.run(model, text), case.oracle(text, negative, STRONG)) <= case.tolerance
    assert report.heat_map().shape == case.grid
    plain = case.run(model, text)
    with vsf.guide(model, negative=vsf.Negative((negative[0],)), method=OFF):
        assert torch.equal(case.run(model, text), plain)


def test_the_family_of_the_page_encodes_real_tokens_alone(case):
    parts = {"text_encoder": tiny.t5_encoder(), "tokenizer": tiny.t5_tokenizer(), "vae": None}
    scheduler = diffusers.EulerAncestralDiscreteScheduler()
    pipe = diffusers.AllegroPipeline(transformer=case.model(), scheduler=scheduler, **parts)
    ids = torch.tensor([pipe.tokenizer("wheels").input_ids])
    with torch.no_grad():
        expected = pipe.text_encoder(ids)[0][0]
    negative = vsf.encode(pipe, "wheels")
    torch.testing.assert_close(negative.embeddings[0], expected, rtol=0, atol=1e-6)
    assert negative.special[0].tolist() == [False] * (len(expected) - 1) + [True]


def test_the_doctor_prints_what_the_page_shows(case, tmp_path, monkeypatch):
    monkeypatch.delitem(FAMILIES._entries, "allegro")
    index = {"_class_name": "AllegroPipeline", "transformer": ["diffusers", "AllegroTransformer3DModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    case.model().save_config(tmp_path / "transformer")
    (found,) = inspect_model(tmp_path)
    for layers in found.layers:
        assert re.search(rf"{re.escape(layers.pattern)} +32 +{layers.processor}", PAGE)
    assert f"the denoiser is called with: {', '.join(found.arguments[:5])}, ..." in PAGE
    assert f"It cannot be guided: {found.missing}" in PAGE
