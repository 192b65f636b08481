"""Words of the positive prompt weigh what they should in families whose pipelines have a tokenizer read it plainly.

Where text has no positions, a word that weighs 2 is a word that stands there twice.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import vsf
from families.harness import call, difference
from families.models import tiny_joint, tiny_masked, tiny_unet, tiny_wan
from vsf.families import FAMILIES, find_family

IN_T5 = [2, 3, 4, 5]  # of "▁", a, "▁", r, e, d, end
IN_CLIP = [2, 3, 4]  # of begin, a, r, e, d, end


@dataclass(frozen=True)
class Words:
    """One pipeline. build, settings: as in the harness. red: which of the text tokens of "a red" are "red".

    options: for the pipeline's `encode_prompt`. returned: what that returns, as arguments of the pipeline.
    """

    build: Callable[[], Any]
    settings: Mapping[str, Any]
    red: list[int]
    options: Mapping[str, Any]
    returned: tuple[str, ...] = ("prompt_embeds",)

    def run(self, pipe, prompt="a red", **embeddings):
        return call(pipe, prompt, **{**self.settings, **embeddings})

    def twice(self, pipe):
        """What the pipeline makes of "a red" itself, as its call takes it, with "red" once more at the end."""
        made = pipe.encode_prompt("a red", **self.options, do_classifier_free_guidance=False)
        given = {name: each for name, each in zip(self.returned, made, strict=False) if name}
        longer = [name for name in given if name != "pooled_prompt_embeds"]
        return given | {name: torch.cat([given[name], given[name][:, self.red]], 1) for name in longer}


SHORT, MASKED = {"max_sequence_length": 24}, ("prompt_embeds", "prompt_attention_mask")
CLIP, XL = {"device": "cpu", "num_images_per_prompt": 1}, ("prompt_embeds", "", "pooled_prompt_embeds")
CROSS = {
    "wan": Words(tiny_wan.pipeline, {**tiny_wan.SETTINGS, **tiny_wan.TEXT}, IN_T5, SHORT),
    "ltx": Words(tiny_masked.ltx_pipeline, tiny_masked.LTX, IN_T5, SHORT, MASKED),
    "pixart": Words(tiny_masked.pixart_pipeline, tiny_masked.PIXART, IN_T5, SHORT, MASKED),
    "stable diffusion": Words(tiny_unet.pipeline, tiny_unet.SETTINGS, IN_CLIP, CLIP),
    "sdxl": Words(tiny_unet.pipeline_xl, tiny_unet.SETTINGS, IN_CLIP, CLIP, XL),
}


@pytest.mark.parametrize("name", CROSS)
def test_a_word_that_weighs_two_is_as_if_it_stood_there_twice(name):
    words = CROSS[name]
    pipe = words.build()
    plain = words.run(pipe)
    with vsf.guide(pipe, vsf.Prompt.parse("a (red:2)")):
        weighed = words.run(pipe)
    with torch.no_grad():
        twice = words.run(pipe, None, **words.twice(pipe))
    assert difference(weighed, twice) <= 1e-5
    assert difference(plain, twice) > 1e-4


def test_words_of_cogvideox_can_be_weighed():
    pipe, settings = tiny_joint.cogvideox_pipeline(), {**tiny_joint.VIDEO, **tiny_joint.CLIP}
    characters = FAMILIES["cogvideox"].characters(pipe, "a red")
    assert [place for place, (_, stop) in enumerate(characters) if stop > 2] == IN_T5
    plain = call(pipe, "a red", **settings)
    with vsf.guide(pipe, vsf.Prompt.parse("a (red:2)")):
        assert difference(call(pipe, "a red", **settings), plain) > 1e-4


def test_a_refiner_reads_with_its_only_tokenizer():
    pipe = tiny_unet.pipeline_xl()
    pipe.tokenizer = pipe.text_encoder = None
    characters = FAMILIES["unet"].characters(pipe, "a red")
    assert [place for place, (_, stop) in enumerate(characters) if stop > 2] == IN_CLIP
    assert len(characters) == 77


def test_capital_letters_may_go_before_a_tokenizer_reads_them():
    pipe = tiny_masked.pixart_pipeline()
    characters = find_family(pipe).characters
    assert characters(pipe, "A Red") == characters(pipe, "a red")


@pytest.mark.parametrize(
    ("build", "written", "read"),
    [
        (tiny_wan.pipeline, "a  (red:2)", "'a red'"),
        (tiny_masked.pixart_pipeline, " a (red:2)", "'a red'"),
        (tiny_wan.pipeline, "a (red:2) &amp; blue", "'a red & blue'"),
    ],
    ids=["two spaces", "a space in front", "an entity"],
)
def test_a_prompt_that_its_pipeline_changes_is_refused_with_what_it_becomes(build, written, read):
    pipe = build()
    with pytest.raises(vsf.KnobError, match=read), vsf.guide(pipe, vsf.Prompt.parse(written)):
        pass


def test_freed_encoders_are_named_as_the_reason():
    pipe = tiny_wan.pipeline()
    pipe.text_encoder = None
    with pytest.raises(vsf.PromptError, match="gone"), vsf.guide(pipe, vsf.Prompt.parse("a (red:2)")):
        pass
