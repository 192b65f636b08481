"""Train the embedded models from seeds: ``python -m vsf.tiny.train --out runs/tiny``.

Four stages: encoder (closed form), decoder, teacher (``tiny-base``), student (``tiny``). Each goes on from its
checkpoint if the run was stopped. Runs on a CPU in a few hours and uses a CUDA device where there is one.
"""

from __future__ import annotations

import random
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from diffusers import StableDiffusion3Pipeline
from jaxtyping import Float, UInt8
from torch import Tensor

from vsf.tiny import folder, model, patch_code, read, stages
from vsf.tiny.data import Window, chunks, to_pixels
from vsf.tiny.loop import Stage, first_step, load_average, train
from vsf.tiny.scenes import Scene, with_essentials, without_parts

RECIPE = Path(__file__).with_name("train.toml")
STAGES = ("encoder", "decoder", "teacher", "student")
EXPORTS = {"teacher": "tiny-base", "student": "tiny"}
# Number of the chunk at which each stage starts to draw images, so far apart that no stage draws another's.
ENCODER_CHUNKS = 0
DECODER_CHUNKS = 1_000
DENOISER_CHUNKS = 1_000_000


class Trainer:
    """The pipeline being trained, with one method for each stage."""

    def __init__(self, pipe: StableDiffusion3Pipeline, config: dict[str, Any], out: Path):
        self.pipe = pipe
        self.config = config
        self.out = out
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def encoder(self) -> None:
        """Write the principal code of some thousand images into the encoder: the same at every call."""
        source = self._chunks(ENCODER_CHUNKS)
        images = torch.cat([next(source)[0] for _ in range(self.config["encoder"]["chunks"])])
        patch_code.write_encoder(self.pipe.vae, to_pixels(images))

    def decoder(self) -> None:
        """Train the decoder on the encoder's latents, slightly disturbed as generated ones are."""
        options = self.config["decoder"]
        source = self._pixels(options["batch"])
        decoder = self.pipe.vae.decoder

        def loss(step: int) -> Tensor:
            _, generator = self._randomness("decoder", step)
            pixels = next(source)
            with torch.no_grad():
                latents = self.pipe.vae.encode(pixels).latents
            noise = torch.randn(latents.shape, generator=generator).to(latents) / self.pipe.vae.config.scaling_factor
            return stages.decoder_loss(decoder, pixels, latents + options["noise"] * noise)

        self.pipe.vae.to(self.device)
        self._train("decoder", decoder, loss)

    def teacher(self) -> None:
        """Train transformer and text encoders together by flow matching."""
        options = self.config["teacher"]
        denoiser = self._denoiser()
        window = self._window("teacher")

        def loss(step: int) -> Tensor:
            rng, generator = self._randomness("teacher", step)
            latents, captions = self._visit(window, step, rng)
            captions = ["" if rng.random() < options["drop_caption"] else caption for caption in captions]
            bare = rng.random() < options["bare_rows"]
            return stages.teacher_loss(denoiser, latents, self._tokens(captions), bare, generator)

        self._train("teacher", denoiser, loss)

    def student(self) -> None:
        """Distil guidance and many steps into one call of a copy of the teacher."""
        options = self.config["student"]
        student = self._denoiser()
        teacher = self._frozen_teacher()
        # Distilled or not, the models share their text encoders.
        student.encoders.requires_grad_(False)
        grids = [stages.step_grid(self.pipe.scheduler, count) for count in options["step_counts"]]
        push = stages.Push(options["guidance_scale"], options["part_scale"], options["essential_scale"])
        window = self._window("student")

        def loss(step: int) -> Tensor:
            rng, generator = self._randomness("student", step)
            latents, captions = self._visit(window, step, rng)
            bare = [without_parts(caption) for caption in captions]
            full = [with_essentials(caption) for caption in captions]
            variants = [captions, [""] * len(captions), bare, full]
            texts = [self._tokens(variant)[0] for variant in variants]
            walk = stages.random_walks(grids, len(latents), options["teacher_substeps"], rng).to(self.device)
            return stages.student_loss((student, teacher), latents, texts, walk, push, generator)

        self._train("student", student, loss)

    def load(self, name: str) -> bool:
        """Load the weights of a finished stage into the pipeline, or return False if it is not finished."""
        if name == "encoder":
            self.encoder()
            return True
        network = self.pipe.vae.decoder if name == "decoder" else self._denoiser()
        return load_average(self.out / f"{name}.pt", self.config[name]["steps"], network)

    def _train(self, name: str, network: torch.nn.Module, loss: Callable[[int], Tensor]) -> None:
        options = self.config[name]
        average = train(Stage(name, network, options["steps"], options["learning_rate"], loss), self.out, self.device)
        network.load_state_dict(average.state_dict())

    def _denoiser(self) -> stages.Denoiser:
        return stages.Denoiser(self.pipe.transformer, [self.pipe.text_encoder, self.pipe.text_encoder_2])

    def _frozen_teacher(self) -> stages.Denoiser:
        base = read(self.out / EXPORTS["teacher"])
        teacher = stages.Denoiser(base.transformer, [base.text_encoder, base.text_encoder_2])
        return teacher.to(self.device).requires_grad_(False)

    def _randomness(self, stage: str, step: int) -> tuple[random.Random, torch.Generator]:
        # Seeded by the step, so that a resumed run draws the numbers that an unbroken one would.
        rng = random.Random(f"{self.config['seed']}/{stage}/{step}")
        return rng, torch.Generator().manual_seed(rng.getrandbits(63))

    def _tokens(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        tokens, real = stages.tokenize(self.pipe.tokenizer, captions)
        return tokens.to(self.device), real.to(self.device)

    def _chunks(self, first: int) -> Iterator[tuple[UInt8[Tensor, "images size size 3"], list[Scene]]]:
        return chunks(self.config["seed"], self.config["data"]["chunk"], model.IMAGE_SIZE, first)

    def _pixels(self, batch: int) -> Iterator[Float[Tensor, "batch 3 size size"]]:
        images_seen = first_step(self.out / "decoder.pt") * batch
        for images, _ in self._chunks(DECODER_CHUNKS + images_seen // self.config["data"]["chunk"]):
            for part in images.split(batch):
                yield to_pixels(part).to(self.device)

    def _window(self, stage: str) -> Window:
        """Return the images that this stage holds at the step where it starts or resumes."""
        # Checkpoints do not hold the window: drawing its chunks again gives the same images.
        last = self._chunks_by(max(0, first_step(self.out / f"{stage}.pt") - 1))
        start = max(0, last - self.config["data"]["window"])
        window = Window(self._chunks(DENOISER_CHUNKS + start), self._encode, self.config["data"]["window"])
        for _ in range(last - start):
            window.grow()
        return window

    def _visit(self, window: Window, step: int, rng: random.Random) -> tuple[Float[Tensor, "batch ..."], list[str]]:
        if step and self._chunks_by(step) > self._chunks_by(step - 1):
            window.grow()
        latents, captions = window.sample(self.config["batch"], rng)
        return latents.to(self.device), captions

    def _chunks_by(self, step: int) -> int:
        """Return the number of chunks drawn by this step; eight are drawn before the first."""
        data = self.config["data"]
        return 8 + step * self.config["batch"] // (data["chunk"] * data["visits"])

    @torch.no_grad()
    def _encode(self, images: UInt8[Tensor, "images size size 3"]) -> Float[Tensor, "images channels height width"]:
        vae = self.pipe.vae.to(self.device)
        codes = [vae.encode(to_pixels(part).to(self.device)).latents.cpu() for part in images.split(128)]
        return torch.cat(codes) * vae.config.scaling_factor


def export(pipe: StableDiffusion3Pipeline, out: Path, name: str) -> None:
    """Write the pipeline beside the checkpoints, replacing an older export as a whole."""
    part = out / f"{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    model.save(pipe.to("cpu"), part)
    shutil.rmtree(out / name, ignore_errors=True)
    part.rename(out / name)


def main(
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, log and the finished pipelines.")],
    config: Annotated[Path, typer.Option(help="The recipe.")] = RECIPE,
    only: Annotated[str, typer.Option(help="Comma-separated stages to run.")] = ",".join(STAGES),
    warm: Annotated[
        bool, typer.Option(help="Start from the shipped teacher instead of random weights, and keep its latents.")
    ] = False,
) -> None:
    """Train the embedded models; run again to go on where it stopped."""
    unknown = set(only.split(",")) - set(STAGES)
    if unknown:
        raise typer.BadParameter(f"expected stages among {', '.join(STAGES)}; got {', '.join(sorted(unknown))}")
    out.mkdir(parents=True, exist_ok=True)
    options = tomllib.loads(config.read_text())
    torch.manual_seed(options["seed"])
    trainer = Trainer(read(folder(EXPORTS["teacher"])) if warm else model.pipeline(), options, out)
    for stage in STAGES:
        if stage in only.split(","):
            getattr(trainer, stage)()
            finished = True
        elif warm and stage not in EXPORTS:
            # Other scenes would give another code, and latents that no shipped weights know.
            finished = True
        else:
            # With --warm the pipeline began as the shipped teacher.
            finished = trainer.load(stage) or (warm and stage == "teacher")
        if finished and stage in EXPORTS:
            export(trainer.pipe, out, EXPORTS[stage])


if __name__ == "__main__":
    typer.run(main)
