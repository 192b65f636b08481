"""The training run: the networks it trains, and one method for each stage."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from vsf.tiny.training import export, losses
from vsf.tiny.training.autoencoder import SPREAD, Autoencoder, to_pixels, write_principal_code
from vsf.tiny.training.data import TrainingSet, crops
from vsf.tiny.training.denoiser import Denoiser
from vsf.tiny.training.evaluation import round_trip_db
from vsf.tiny.training.loop import Run, Stage
from vsf.tiny.training.tokens import Tokenizer
from vsf.tiny.world.renderer import SIZE

STAGES = ("autoencoder", "teacher", "decoder", "guide", "student")
BASE = "tiny-base"
FEW_STEPS = "tiny"
Loss = Callable[[float, torch.Generator], Tensor]
Export = Callable[[nn.Module, int], None]


class Training:
    """One training run: the networks it trains, and one method for each stage.

    Args:
        options: Those of the command, ``python -m vsf.tiny.training``.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        # Settles the initial weights, which a resumed run has to draw again.
        torch.manual_seed(options.seed)
        self.options = options
        self.device = torch.device(options.device)
        self.run = Run(options.out, self.device, options.seed, options.save_seconds)
        folder = options.data or options.out / "data"
        self.data = TrainingSet(folder, options.seed, options.capacity, options.workers, self.device)
        tokenizer = Tokenizer()
        self.empty = torch.tensor(tokenizer(""), device=self.device)
        encoder_blocks = (0, 3, 3, 0) if options.encoder == "residual" else (0, 0, 0, 0)
        self.autoencoder = Autoencoder(encoder_blocks).to(self.device)
        self.teacher = Denoiser(options.depth, tokenizer).to(self.device)
        self.code = export.Code(0.0, 1 / SPREAD)
        self.visited = dict.fromkeys(STAGES, 0)
        if options.start:
            self._start_from(options.start)
        images = (int(count) for count in options.images.split(","))
        self.images = dict(zip(STAGES, images, strict=True))
        seconds = (float(limit) for limit in options.seconds.split(","))
        self.seconds = dict(zip(STAGES, seconds, strict=True))

    def _start_from(self, folder: Path) -> None:
        """Go on from an export: of a whole model, whose code is final, or of an autoencoder that may be trained on."""
        if export.is_whole(folder):
            self.code, progress = export.load(folder, self.teacher, self.autoencoder)
        else:
            self.code, progress = export.load_autoencoder(folder, self.autoencoder)
        self.visited.update(progress)

    def run_stages(self) -> None:
        """Run every stage."""
        settings: dict[str, object] = {"denoiser": _size(self.teacher), "autoencoder": _size(self.autoencoder)}
        for name, value in vars(self.options).items():
            settings[name] = str(value) if isinstance(value, Path) else value
        self.run.log(**settings)
        if not (self.options.start and export.is_whole(self.options.start)):
            self.train_autoencoder()
        self.data.encode_with(self.autoencoder.encoder, self.code.shift, self.code.scale)
        self.train_teacher()
        self.train_decoder()
        if self.images["student"]:
            self.train_student(self.train_guide())
        self.run.log(done=True)

    def train_autoencoder(self) -> None:
        """Train encoder and decoder, starting from the exact principal code, and fix the latents' normalisation."""
        # Renders for the teacher, drawn by the workers while this stage trains.
        self.data.draw_ahead(self.options.first)
        pixels = self.data.images(self.options.pixel_images)
        if not self.options.start:
            write_principal_code(self.autoencoder.encoder, to_pixels(pixels[:1024]))
        stage = self._stage(
            "autoencoder",
            self.autoencoder,
            self.autoencoder,
            self.options.pixel_batch,
            rate=2e-3,
            loss=self._autoencoder_loss(pixels, train_code=True),
            slow="encoder.",  # the principal code is good already
            write=self._export_autoencoder,
        )
        average = self.run.train(stage, self.visited["autoencoder"])
        self.autoencoder.load_state_dict(average.state_dict())
        with torch.no_grad():
            codes = torch.cat([self.autoencoder.encoder(to_pixels(part)) for part in pixels[:1024].split(64)])
        self.code = export.Code(codes.mean().item(), 1 / codes.std().item())
        self._report_round_trip()

    def train_teacher(self) -> None:
        """Train transformer and text encoders together by flow matching."""

        def loss(done: float, generator: torch.Generator) -> Tensor:
            self._grow(done)
            latents, texts = self.data.batch(self.options.batch, generator)
            return losses.flow_matching_loss(self.teacher, latents, texts[:, 0], self.empty, generator)

        stage = self._stage(
            "teacher",
            self.teacher,
            self.teacher,
            self.options.batch,
            rate=self.options.rate,
            loss=loss,
            write=self._exporter(BASE),
        )
        average = self.run.train(stage, self.visited["teacher"])
        # A resumed run that finds this stage done has to hold the same images as one that did it.
        self._grow(1.0)
        self.visited["teacher"] = max(self.visited["teacher"], self.images["teacher"])
        self.teacher.load_state_dict(average.state_dict())

    def _grow(self, done: float) -> None:
        """Grow the training set with the share of the teacher's stage that is done.

        Each image is visited ``visits`` times, on average, before the next one is added.
        """
        visits = round(done * self.images["teacher"])
        self.data.grow(self.options.first + visits // self.options.visits)

    def train_decoder(self) -> None:
        """Train the decoder further; the encoder stays, as the teacher has learnt its latents."""
        pixels = self.data.images(self.options.pixel_images) if self.images["decoder"] else torch.empty(0)
        stage = self._stage(
            "decoder",
            self.autoencoder,
            self.autoencoder.decoder,
            self.options.pixel_batch,
            rate=1e-3,
            loss=self._autoencoder_loss(pixels, train_code=False),
        )
        average = self.run.train(stage)
        self.autoencoder.load_state_dict(average.state_dict())
        self._report_round_trip()
        self._exporter(BASE)(self.teacher, self.visited["teacher"])

    def train_guide(self) -> Denoiser:
        """Distil the pushed teacher into one call; from here on the text encoders stay as the teacher's are."""
        push = losses.Push(*(float(scale) for scale in self.options.pushes.split(",")))
        teacher = copy.deepcopy(self.teacher).requires_grad_(False)
        guide = copy.deepcopy(self.teacher)
        guide.encoders.requires_grad_(False)

        def loss(_: float, generator: torch.Generator) -> Tensor:
            latents, texts = self.data.batch(self.options.batch, generator)
            return losses.guide_loss(guide, teacher, latents, texts, self.empty, push, generator)

        rate = self.options.rate / 4
        stage = self._stage("guide", guide, guide.transformer, self.options.batch, rate=rate, loss=loss)
        guide.load_state_dict(self.run.train(stage).state_dict())
        return guide.requires_grad_(False)

    def train_student(self, guide: Denoiser) -> None:
        """Distil many steps of the guide into few."""
        student = copy.deepcopy(guide)
        student.transformer.requires_grad_(True)

        def loss(_: float, generator: torch.Generator) -> Tensor:
            latents, texts = self.data.batch(self.options.batch, generator)
            return losses.student_loss(student, guide, latents, texts[:, 0], self.options.substeps, generator)

        write = self._exporter(FEW_STEPS)
        stage = self._stage(
            "student",
            student,
            student.transformer,
            self.options.batch,
            rate=self.options.rate / 4,
            loss=loss,
            write=write,
        )
        write(self.run.train(stage), self.visited["teacher"])

    def _stage(
        self,
        name: str,
        network: nn.Module,
        trained: nn.Module,
        batch: int,
        *,
        rate: float,
        loss: Loss,
        slow: str = "",
        write: Export | None = None,
    ) -> Stage:
        """Return a stage with the images and the time limit that the options set for it."""
        return Stage(name, network, trained, self.images[name], batch, rate, loss, slow, write, self.seconds[name])

    def _autoencoder_loss(self, pixels: Tensor, *, train_code: bool) -> Loss:
        """Return a loss on quarters of pictures, which hold more difficult areas, and in the end on whole pictures."""

        def loss(done: float, generator: torch.Generator) -> Tensor:
            cut = 2 if done < 0.7 else 1
            squares = crops(pixels, self.options.pixel_batch * cut**2, SIZE // cut, generator)
            return losses.autoencoder_loss(self.autoencoder, squares, generator, train_code=train_code)

        return loss

    def _exporter(self, name: str) -> Export:
        """Return a function that exports a denoiser, with the autoencoder as it is then, under a name."""

        def write(average: nn.Module, images: int) -> None:
            assert isinstance(average, Denoiser)
            progress = {"teacher": images if name == BASE else self.visited["teacher"]}
            export.save(self.options.out / name, average, self.autoencoder, self.code, progress)

        return write

    def _export_autoencoder(self, average: nn.Module, images: int) -> None:
        assert isinstance(average, Autoencoder)
        export.save_autoencoder(self.options.out / "autoencoder", average, self.code, {"autoencoder": images})

    def _report_round_trip(self) -> None:
        self.run.log(**round_trip_db(self.autoencoder, self.device))


def _size(network: nn.Module) -> int:
    """Return the number of a network's parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
