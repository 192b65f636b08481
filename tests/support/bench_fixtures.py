"""What the tests of the benchmark share: pairs, and work that stands in for a model."""

import io
import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vsf.bench.plan import Setting
from vsf.bench.run.batch import Batch, Conditions, DrawnBatch
from vsf.bench.run.rows import RunInfo
from vsf.bench.suites.load import Pair
from vsf.judges.base import Verdict

PAIRS = [
    Pair(
        f"p{index}", f"a {colour} car on snow", "wheels", "Is there a car?", "Are no wheels visible?", {"object": "car"}
    )
    for index, colour in enumerate(("red", "green", "blue", "white", "black"))
]
NONE = Setting(label="none", method="none")
VSF = Setting(label="vsf", method="vsf", knobs={"scale": 2.0})


@dataclass
class Coloured:
    """Draws each image in a colour that its setting, pair and seed decide, in no time."""

    conditions: Conditions

    def __call__(self, batch: Batch) -> DrawnBatch:
        files = []
        for pair in batch.pairs:
            colour = random.Random(f"{batch.setting.label} {pair.id} {batch.seed}").randbytes(3)
            stream = io.BytesIO()
            Image.new("RGB", (8, 8), tuple(colour)).save(stream, format="PNG")
            files.append(stream.getvalue())
        run = RunInfo(seconds=0.5, peak_memory=1000, host="here", device="cpu", versions={"vsf": "0"})
        return DrawnBatch(batch, tuple(files), 1, (8, 8), run)


@dataclass
class DiesOnce:
    """Work whose worker is killed, by itself, in the middle of its first job; `mark` remembers that."""

    work: object
    mark: Path

    def __call__(self, job):
        if not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.work(job)


@dataclass
class SlowJudge:
    """Has an opinion on every picture, after a little thought."""

    name: str = "slow"
    version: str = "1"
    batch: int = 3
    waits: bool = False

    def __call__(self, cases):
        time.sleep(0.005)
        reds = [case.image().getpixel((0, 0))[0] for case in cases]
        return [Verdict(red > 50, red > 150, red / 255, f"red {red}", tokens=red) for red in reds]


class SlowlyColoured(Coloured):
    def __call__(self, batch):
        time.sleep(0.005)
        return super().__call__(batch)
