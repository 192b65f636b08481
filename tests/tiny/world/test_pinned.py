"""Renders, captions, tokens and prompts of a seed never change by a bit.

Models learn from exactly these pictures and words and are measured on exactly these prompts. An intended
change makes older renders, exports and figures useless, and needs new digests here.
"""

import hashlib
import json
import random

import numpy as np
import PIL
import pytest

from vsf.tiny.training.data import draw_chunk
from vsf.tiny.training.tokens import Tokenizer
from vsf.tiny.world import sheet
from vsf.tiny.world.captions import plan_caption
from vsf.tiny.world.prompts import prompt_pairs
from vsf.tiny.world.renderer import render
from vsf.tiny.world.scenes import sample_scene

SAME_PILLOW = pytest.mark.skipif(
    PIL.__version__.split(".")[0] != "13", reason="other versions of Pillow may draw some pixels differently"
)


def digest(*blocks: bytes) -> str:
    checksum = hashlib.sha256()
    for block in blocks:
        checksum.update(block)
    return checksum.hexdigest()[:16]


def test_captions_of_a_seed_never_change():
    rng = random.Random(20)
    lines = []
    for _ in range(1500):
        plan = plan_caption(sample_scene(rng), rng)
        lines += [plan.text(), plan.without_parts().text(), plan.with_essentials().text()]
    held_out = [plan_caption(sample_scene(rng, held_out=True), rng).text() for _ in range(100)]
    assert digest("\n".join(lines).encode()) == "e184c1a0c2a690d3"
    assert digest("\n".join(held_out).encode()) == "ee8eebaf685b2e38"


@SAME_PILLOW
def test_renders_of_a_seed_never_change():
    rng = random.Random(21)
    pictures = [render(sample_scene(rng)).tobytes() for _ in range(40)]
    assert digest(*pictures) == "adc3578390dab14a"


@SAME_PILLOW
def test_drawings_of_all_objects_places_and_styles_never_change():
    cells = []
    for rows in (sheet.objects(), sheet.places(), sheet.loose()):
        cells += [scene for row in rows for _, scene in row]
    assert digest(*(render(scene, 64).tobytes() for scene in cells)) == "9ab64b32a457e465"


def test_tokens_never_change(tmp_path):
    tokenizer = Tokenizer()
    assert digest(json.dumps([tokenizer.ids, tokenizer.merges]).encode()) == "22dbc2a978d3f8c9"
    draw_chunk(tmp_path, seed=5, count=6, index=3)
    tokens = np.load(tmp_path / "00003.tokens.npy")
    assert tokens.dtype == np.int16
    assert digest(tokens.tobytes()) == "95097bcc3f3ff761"


def test_prompts_of_a_seed_never_change():
    lines = []
    for split in ("dev", "test"):
        for pair in prompt_pairs(600, seed=4, split=split):
            lines.append(f"{pair.prompt} | {pair.negative} | {pair.fact} | {pair.beside}")
    assert digest("\n".join(lines).encode()) == "459217d92777e352"
