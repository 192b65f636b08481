"""Train the embedded models: ``python -m vsf.tiny.training --out runs/tiny``.

Five stages, each of which visits a given number of images: autoencoder (encoder and decoder), teacher (exported as
tiny-base), decoder (further, with the encoder fixed), guide (the teacher's guidance distilled into one call), student
(exported as tiny: four and eight steps). Run the command again to resume a stopped run. Needs torch, numpy, Pillow,
safetensors and jaxtyping.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from vsf.tiny.training.samples import write_samples
from vsf.tiny.training.trainer import STAGES, Training
from vsf.tiny.training.transformer import Transformer, run_block

# In the order of STAGES.
DEFAULT_IMAGES = {
    "cpu": "20000,3000000,60000,120000,160000",
    "cuda": "400000,5000000,200000,400000,700000",
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options, with defaults for the device at hand."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cuda = device == "cuda"
    options = argparse.ArgumentParser(prog="python -m vsf.tiny.training", description=__doc__.split("\n")[0])
    add = options.add_argument
    add("--out", type=Path, required=True, help="folder for checkpoints, log and exported models")
    add("--data", type=Path, help="folder for the renders; by default one in --out")
    add("--start", type=Path, help="exported folder to go on from: a tiny-base, or an autoencoder")
    add("--images", default=DEFAULT_IMAGES[device], help=f"images to visit in {', '.join(STAGES)}")
    add("--seconds", default="0,0,0,0,0", help="time limit of each stage; 0 is no limit")
    add("--capacity", type=int, default=200_000 if cuda else 60_000, help="images in the training set")
    add("--first", type=int, default=200_000 if cuda else 4096, help="images drawn before training starts")
    add("--visits", type=int, default=4, help="average visits to an image before the next one is drawn")
    add("--pixel-images", type=int, default=50_000 if cuda else 4096, help="images to train the autoencoder on")
    add("--depth", type=int, default=4 if cuda else 3, help="blocks; the width is 64 times this")
    add("--batch", type=int, default=512 if cuda else 64, help="images of one step")
    add("--pixel-batch", type=int, default=64 if cuda else 4, help="whole pictures of one step of the autoencoder")
    add("--rate", type=float, default=3e-3, help="peak learning rate of the teacher")
    add("--encoder", choices=("residual", "linear"), default="residual" if cuda else "linear", help="kind of encoder")
    add("--pushes", default="2.5,2,1.5", help="guidance to distil: from the empty caption, no parts, all parts")
    add("--substeps", type=int, default=4, help="steps of the guide within one of the student")
    add("--workers", type=int, default=(os.cpu_count() or 2) * 3 // 4 if cuda else 0, help="processes that draw")
    add("--threads", type=int, default=1, help="threads of this process on the CPU")
    add("--device", default=device, help="device to train on")
    add("--compile", action="store_true", help="compile the transformer's blocks")
    add("--save-seconds", type=float, default=60, help="time between checkpoints")
    add("--seed", type=int, default=0, help="seed of images, weights and noise")
    add("--sheet", type=Path, help="instead of training, draw a sheet with this exported folder, beside it")
    return options


def main() -> None:
    """Train, or draw a sheet."""
    options = parser().parse_args()
    torch.set_num_threads(options.threads)
    # Lets a GPU multiply in TF32.
    torch.set_float32_matmul_precision("high")
    if options.sheet:
        write_samples(options.sheet)
        return
    if options.compile:
        Transformer.run_block = staticmethod(torch.compile(run_block, dynamic=False))
    Training(options).run_stages()


if __name__ == "__main__":
    main()
