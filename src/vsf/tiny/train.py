"""Train the embedded models from seeds: ``python -m vsf.tiny.train --out runs/tiny``.

Three stages, each resumed from its checkpoint if the run was stopped: autoencoder, teacher (``tiny-base``), student
(``tiny``). Runs on a CPU in a few hours and uses a CUDA device where there is one.
"""

from __future__ import annotations

import random
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from diffusers import StableDiffusion3Pipeline
from jaxtyping import Float, UInt8
from torch import Tensor

from vsf.tiny import folder, model, stages
from vsf.tiny.data import CHUNK, Window, chunks, to_pixels
from vsf.tiny.loop import Stage, train

STAGES = ("autoencoder", "teacher", "student")
AUTOENCODER_CHUNKS = 0  # chunk numbers from here on; the stages never share an image
DENOISER_CHUNKS = 1_000_000


class Trainer:
    """The pipeline in the making and what each stage does to it."""

    def __init__(self, pipe: StableDiffusion3Pipeline, config: dict[str, Any], out: Path, device: torch.device):
        self.pipe, self.config, self.out, self.device = pipe, config, out, device

    def autoencoder(self) -> None:
        """Train the autoencoder, then put the latents' mean and spread into its config, so that they are unit-scaled."""
        options = self.config["autoencoder"]
        source = self._pixels(options["batch"])

        def loss(step: int) -> Tensor:
            torch.manual_seed(hash((self.config["seed"], step)))
            return stages.autoencoder_loss(vae, next(source), options["kl_weight"], options["edge_weight"])

        vae = self.pipe.vae
        average = train(self._stage("autoencoder", vae, loss), self.out, self.device)
        vae.load_state_dict(average.state_dict())
        latents = self._encode_raw(next(chunks(self.config["seed"], model.IMAGE_SIZE, AUTOENCODER_CHUNKS))[0])
        vae.register_to_config(shift_factor=latents.mean().item(), scaling_factor=1 / latents.std().item())

    def teacher(self) -> None:
        """Train transformer and text encoders together by flow matching."""
        options = self.config["teacher"]
        denoiser = self._denoiser()

        def loss(step: int) -> Tensor:
            rng, generator = self._randomness("teacher", step)
            latents, captions = self._visit(window, step, rng)
            captions = ["" if rng.random() < options["drop_caption"] else caption for caption in captions]
            bare = rng.random() < options["bare_rows"]
            return stages.teacher_loss(denoiser, latents, self._tokens(captions), bare, generator)

        window = self._window("teacher")
        average = train(self._stage("teacher", denoiser, loss), self.out, self.device)
        denoiser.load_state_dict(average.state_dict())

    def student(self) -> None:
        """Distil guidance and many steps into one call of a copy of the teacher."""
        options = self.config["student"]
        student, teacher = self._denoiser(), self._frozen_teacher()
        grids = [stages.step_grid(self.pipe.scheduler, count) for count in options["step_counts"]]

        def loss(step: int) -> Tensor:
            rng, generator = self._randomness("student", step)
            latents, captions = self._visit(window, step, rng)
            tokens = (self._tokens(captions)[0], self._tokens([""] * len(captions))[0])
            walk = stages.random_walks(grids, len(latents), options["teacher_substeps"], rng).to(self.device)
            scale = options["guidance_scale"]
            return stages.student_loss(student, teacher, latents, tokens, walk, scale, generator)

        window = self._window("student")
        average = train(self._stage("student", student, loss), self.out, self.device)
        student.load_state_dict(average.state_dict())

    def _stage(self, name: str, network: torch.nn.Module, loss: Any) -> Stage:
        return Stage(name, network, self.config[name]["steps"], self.config[name]["learning_rate"], loss)

    def _denoiser(self) -> stages.Denoiser:
        return stages.Denoiser(self.pipe.transformer, [self.pipe.text_encoder, self.pipe.text_encoder_2])

    def _frozen_teacher(self) -> stages.Denoiser:
        copy = read(self.out / "tiny-base")
        teacher = stages.Denoiser(copy.transformer, [copy.text_encoder, copy.text_encoder_2])
        return teacher.to(self.device).requires_grad_(False)

    def _randomness(self, stage: str, step: int) -> tuple[random.Random, torch.Generator]:
        rng = random.Random(f"{self.config['seed']}/{stage}/{step}")
        return rng, torch.Generator().manual_seed(rng.getrandbits(63))

    def _tokens(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        tokens, real = stages.tokenize(self.pipe.tokenizer, captions)
        return tokens.to(self.device), real.to(self.device)

    def _pixels(self, batch: int) -> Iterator[Float[Tensor, "batch 3 size size"]]:
        for images, _ in chunks(self.config["seed"], model.IMAGE_SIZE, AUTOENCODER_CHUNKS):
            for part in images.split(batch):
                yield to_pixels(part).to(self.device)

    def _window(self, stage: str) -> Window:
        """The images that this stage holds at the step where it (re)starts."""
        first, capacity = self._first_step(stage), self.config["data"]["window"]
        last = self._chunks_by(first)
        start = max(0, last - capacity // CHUNK)
        source = chunks(self.config["seed"], model.IMAGE_SIZE, DENOISER_CHUNKS + start)
        window = Window(source, self._encode, capacity)
        for _ in range(max(1, last - start)):
            window.grow()
        return window

    def _visit(self, window: Window, step: int, rng: random.Random) -> tuple[Float[Tensor, "batch ..."], list[str]]:
        if self._chunks_by(step) > self._chunks_by(step - 1) and step > 0:
            window.grow()
        latents, captions = window.sample(self.config["batch"], rng)
        return latents.to(self.device), captions

    def _chunks_by(self, step: int) -> int:
        return step * self.config["batch"] // (CHUNK * self.config["data"]["visits"]) + 8

    def _first_step(self, stage: str) -> int:
        checkpoint = self.out / f"{stage}.pt"
        return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["step"]) if checkpoint.exists() else 0

    @torch.no_grad()
    def _encode_raw(self, images: UInt8[Tensor, "images size size 3"]) -> Float[Tensor, "images channels height width"]:
        vae = self.pipe.vae.to(self.device)
        parts = [vae.encode(to_pixels(part).to(self.device)).latent_dist.mode().cpu() for part in images.split(128)]
        return torch.cat(parts)

    def _encode(self, images: UInt8[Tensor, "images size size 3"]) -> Float[Tensor, "images channels height width"]:
        config = self.pipe.vae.config
        return (self._encode_raw(images) - config.shift_factor) * config.scaling_factor


def read(path: Path) -> StableDiffusion3Pipeline:
    """A saved pipeline in float32."""
    return StableDiffusion3Pipeline.from_pretrained(path, torch_dtype=torch.float32, local_files_only=True)


def export(pipe: StableDiffusion3Pipeline, out: Path, name: str) -> None:
    """Write the pipeline beside the checkpoints, replacing an older export as a whole."""
    part = out / f"{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    model.save(pipe, part)
    shutil.rmtree(out / name, ignore_errors=True)
    part.rename(out / name)


EXPORTS = {"autoencoder": "autoencoder", "teacher": "tiny-base", "student": "tiny"}


def main(
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, log and the finished pipelines.")],
    config: Annotated[Path, typer.Option(help="The recipe.")] = Path(__file__).with_name("train.toml"),
    only: Annotated[str, typer.Option(help="Comma-separated stages to run.")] = ",".join(STAGES),
    warm: Annotated[bool, typer.Option(help="Start from the shipped weights instead of random ones.")] = False,
) -> None:
    """Train the embedded models; run again to go on where it stopped."""
    unknown = set(only.split(",")) - set(STAGES)
    if unknown:
        raise typer.BadParameter(f"expected stages among {', '.join(STAGES)}; got {', '.join(sorted(unknown))}")
    out.mkdir(parents=True, exist_ok=True)
    options = tomllib.loads(config.read_text())
    torch.manual_seed(options["seed"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pipe = read(folder()) if warm else model.pipeline()
    for index, stage in enumerate(STAGES):
        if index and (previous := out / EXPORTS[STAGES[index - 1]]).exists():
            pipe = read(previous)
        if stage in only.split(","):
            getattr(Trainer(pipe, options, out, device), stage)()
            export(pipe.to("cpu"), out, EXPORTS[stage])


if __name__ == "__main__":
    typer.run(main)
