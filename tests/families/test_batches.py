"""A batch of prompts with negatives of different length is what each is alone, in pipelines that take no latents.

Each row of a batch has a random generator of its own. For the other pipelines test_every_family.py shows it.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

import vsf
from families.harness import STRONG, difference
from families.models import (
    tiny_flux2,
    tiny_flux_like,
    tiny_kandinsky5,
    tiny_ltx2,
    tiny_masked,
    tiny_skyreels_v2,
    tiny_wan,
    tiny_wan_animate,
)
from families.models import tiny_per_block_pipelines as per_block

NEGATIVES = ["wheels", "an old tree"]


@dataclass(frozen=True)
class Batch:
    """One pipeline: build and settings as in the harness.

    prompts: of one length where the stock pipeline treats rows of a batch otherwise than alone.
    pictures: whether it wants a picture for each prompt, and takes them as one tensor.
    rounds: whether the stock model rounds inside to bfloat16, where a last bit, which depends on how the processor adds
        up a batch, becomes a step of 2e-5; then that rounding is left out.
    """

    build: Callable[[], Any]
    settings: Mapping[str, Any]
    prompts: tuple[str, str] = ("a red car", "two old dogs")
    pictures: bool = False
    rounds: bool = False

    def run(self, pipe, prompts, *seeds):
        pictures = {"image": torch.cat([self.settings["image"]] * len(prompts))} if self.pictures else {}
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        found = next(iter(pipe(prompt=prompts, generator=generators, **{**self.settings, **pictures}).values()))
        return torch.cat([part.flatten(1) for part in (found if isinstance(found, list) else [found])], 1)


CLIP_15 = {**per_block.CLIP, "height": 64, "width": 96}
SECTIONS = {**per_block.FRAMEPACK, "num_frames": 9, "num_inference_steps": 1}
FROM_A_FRAME = {**tiny_wan.SETTINGS, "guidance_scale": 1.0, "image": tiny_wan.FRAME}
BATCHES = {
    "framepack": Batch(per_block.framepack_pipeline, per_block.FRAMEPACK, pictures=True),
    "framepack over sections": Batch(per_block.framepack_pipeline, SECTIONS, pictures=True),
    "hunyuan_video15": Batch(per_block.hunyuan_video15_pipeline, CLIP_15),
    "hunyuan_video15 i2v": Batch(per_block.from_a_picture, per_block.FROM_A_PICTURE),
    "kandinsky5": Batch(tiny_kandinsky5.pipeline, tiny_kandinsky5.ALONE, ("a red car", "two birds"), rounds=True),
    "ltx2": Batch(tiny_ltx2.pipeline, {**tiny_ltx2.SETTINGS, "guidance_scale": 1.0}),
    "wan animate": Batch(tiny_wan_animate.pipeline, tiny_wan_animate.PIPELINES[0].settings),
    "chronoedit": Batch(tiny_skyreels_v2.edited, tiny_skyreels_v2.FROM_A_FRAME),
    "fibo": Batch(tiny_flux_like.fibo_pipeline, tiny_flux_like.FIBO),
    "wan i2v": Batch(tiny_wan.image_pipeline, FROM_A_FRAME),
    "sana-sprint": Batch(tiny_masked.sprint, tiny_masked.SANA),
    "flux2 dev": Batch(tiny_flux2.dev, tiny_flux2.SETTINGS),
}
SLOW = ("framepack over sections", "wan animate", "chronoedit", "hunyuan_video15 i2v", "wan i2v", "flux2 dev")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.families) if name in SLOW else name for name in BATCHES]
)
def test_a_batch_of_prompts_is_what_each_is_alone(name):
    with Exactly() if BATCHES[name].rounds else nullcontext():
        assert_alike(BATCHES[name])


def assert_alike(batch):
    pipe, prompts = batch.build(), list(batch.prompts)
    with vsf.guide(pipe, NEGATIVES, method=STRONG):
        together = batch.run(pipe, prompts, 3, 4)
    for row, negative in enumerate(NEGATIVES):
        with vsf.guide(pipe, negative, method=STRONG) as report:
            alone = batch.run(pipe, prompts[row : row + 1], 3 + row)
        assert report.calls
        assert difference(together[row : row + 1], alone) <= 1e-5


class Exactly(TorchFunctionMode):
    """Leaves tensors as they are where they should be rounded to bfloat16."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.to and args[1:] == (torch.bfloat16,):
            return args[0]
        return function(*args, **(kwargs or {}))
