"""Training runs end to end, goes on after a stop as if there had been none, and learns what it should."""

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vsf.tiny.training import __main__ as command
from vsf.tiny.training import data, evaluation, loop, losses
from vsf.tiny.training.autoencoder import Autoencoder, to_pixels
from vsf.tiny.training.data import TrainingSet, crops, draw_chunk
from vsf.tiny.training.evaluation import hard_edges, round_trip_db, write_sheet
from vsf.tiny.training.loop import Run, Stage, rate_share
from vsf.tiny.training.optimizer import MuonAdamW, orthogonalised
from vsf.tiny.training.samples import SETTINGS, write_samples
from vsf.tiny.training.tokens import Tokenizer
from vsf.tiny.training.trainer import STAGES, Training

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(data, "CHUNK", 8)
    monkeypatch.setattr(evaluation, "HELD_OUT_SCENES", 12)


def options(out, *more):
    small = [
        "--depth",
        "1",
        "--batch",
        "4",
        "--pixel-batch",
        "1",
        "--first",
        "8",
        "--capacity",
        "24",
        "--device",
        "cpu",
    ]
    small += ["--pixel-images", "8", "--visits", "1", "--save-seconds", "0", "--images", "3,16,2,8,8"]
    return command.parser().parse_args(["--out", str(out), *small, *more])


def weights(folder):
    return {file.relative_to(folder): file.read_bytes() for file in sorted(folder.rglob("*.safetensors"))}


class StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nothing stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "CHUNK", 8)
        patch.setattr(evaluation, "HELD_OUT_SCENES", 12)
        training = Training(options(tmp_path_factory.mktemp("whole")))
        training.run_stages()
    assert training.data.ready == 24, "the training set grew with the visits"
    return training.options.out


def test_every_stage_runs_and_both_models_come_out(whole):
    log = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    stages = ["autoencoder", "teacher", "decoder", "guide", "student"]
    assert list(dict.fromkeys(line["stage"] for line in log if "stage" in line)) == stages
    assert sum("round_trip_db" in line for line in log) == 2
    assert log[-1]["done"]
    base, student = weights(whole / "tiny-base"), weights(whole / "tiny")
    assert {path.parent.name for path in base} == {"transformer", "vae", "text_encoder", "text_encoder_2"}
    shared = {path.parent.name for path in base if base[path] == student[path]}
    assert shared == {"vae", "text_encoder", "text_encoder_2"}, "the student learns in its transformer alone"


@pytest.mark.parametrize(("stage", "after"), [("autoencoder", 2), ("teacher", 3), ("student", 1)])
def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(whole, tmp_path, monkeypatch, stage, after):
    broken = tmp_path / "broken"
    shutil.copytree(whole / "data", broken / "data", ignore=shutil.ignore_patterns("*latents*"))  # the same renders
    original = Run._save
    saves = []

    def save_and_stop(run, finished, *arguments):
        original(run, finished, *arguments)
        saves.append(finished.name)
        if saves.count(stage) == after:
            raise StoppedError

    monkeypatch.setattr(Run, "_save", save_and_stop)
    with pytest.raises(StoppedError):
        Training(options(broken)).run_stages()
    monkeypatch.setattr(Run, "_save", original)
    torch.manual_seed(99)
    Training(options(broken)).run_stages()
    for name in ("tiny-base", "tiny"):
        assert weights(whole / name) == weights(broken / name)


def test_another_machine_goes_on_from_an_exported_folder(whole, tmp_path):
    assert json.loads((whole / "tiny-base" / "training.json").read_text()) == {"teacher": 16}
    start = ["--start", str(whole / "tiny-base"), "--data", str(whole / "data")]
    second = Training(options(tmp_path / "second", *start, "--images", "9,24,0,0,0"))
    before = {name: value.clone() for name, value in second.autoencoder.state_dict().items()}
    second.run_stages()
    log = [json.loads(line) for line in (tmp_path / "second" / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in log if line.get("stage") == "teacher"] == [24]
    assert not any(line.get("stage") == "autoencoder" for line in log)
    assert all(torch.equal(value, before[name]) for name, value in second.autoencoder.state_dict().items())


def test_another_machine_goes_on_with_an_autoencoder_in_the_making(whole, tmp_path):
    assert json.loads((whole / "autoencoder" / "training.json").read_text()) == {"autoencoder": 3}
    start = ["--start", str(whole / "autoencoder"), "--data", str(whole / "data")]
    second = Training(options(tmp_path, *start, "--images", "5,4,0,0,0"))
    before = second.autoencoder.encoder.layers[0].weight.clone()
    saved = load_file(whole / "autoencoder" / "vae" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(before.half(), saved["encoder.layers.0.weight"])
    second.run_stages()
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in log if line.get("stage") == "autoencoder"] == [5]
    assert 0 < (second.autoencoder.encoder.layers[0].weight - before).abs().max() < 0.01, "learnt on, not begun anew"
    assert weights(tmp_path / "tiny-base")


def test_a_sheet_of_an_exported_folder(whole, capsys):
    write_samples(whole / "tiny-base")
    assert (whole / "tiny-base.png").stat().st_size > 10_000
    *captions, figures = capsys.readouterr().out.splitlines()
    assert len(captions) == 12
    measured = json.loads(figures)
    assert measured["round_trip_db"] > 0
    assert list(measured["hard_edges"]) == ["autoencoder", *(f"guidance {g}, {n} steps" for g, n in SETTINGS)]


def test_hard_edges_are_steps_of_more_than_half_the_range():
    pictures = torch.full((1, 3, 4, 4), -1.0)
    pictures[0, 1, :, 2:] = 0.2  # one column of four steps of .6 of the range, of 24 pairs in all
    assert hard_edges(pictures) == pytest.approx(4 / 24)
    pictures[0, 1, :, 2:] = -0.1
    assert hard_edges(pictures) == 0


def test_chunks_are_the_same_for_every_run_and_differ_from_each_other(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for index in (0, 1):
            draw_chunk(tmp_path / name, 5, 8, index)
    load = lambda name, index, kind: np.load(tmp_path / name / f"{index:05}.{kind}.npy")  # noqa: E731
    for kind in ("images", "tokens"):
        assert np.array_equal(load("a", 1, kind), load("b", 1, kind))
        assert not np.array_equal(load("a", 0, kind), load("a", 1, kind))
    assert not np.array_equal(load("a", 0, "tokens")[:, :, 0], load("a", 0, "tokens")[:, :, 1])


def test_the_training_set_draws_what_is_missing_alone_or_in_processes(tmp_path):
    alone = TrainingSet(tmp_path / "alone", 0, 24, 0, CPU).images(24)
    together = TrainingSet(tmp_path / "together", 0, 24, 2, CPU).images(24)
    assert torch.equal(alone, together)
    stamp = (tmp_path / "alone" / "00000.images.npy").stat().st_mtime_ns
    assert len(TrainingSet(tmp_path / "alone", 0, 16, 0, CPU).images(24)) == 16
    assert (tmp_path / "alone" / "00000.images.npy").stat().st_mtime_ns == stamp


def test_latents_are_those_of_the_encoder_and_are_kept_for_it_only(tmp_path):
    first, second = Autoencoder().encoder, Autoencoder().encoder
    for encoder in (first, second, first):
        held = TrainingSet(tmp_path, 0, 16, 0, CPU)
        held.encode_with(encoder, 0.1, 2.0)
        held.grow(16)
        with torch.no_grad():
            expected = (encoder(to_pixels(held.images(16))) - 0.1) * 2
        torch.testing.assert_close(held._latents.float(), expected, atol=2e-3, rtol=2e-3)
    assert len(list(tmp_path.glob("*.latents-*.npy"))) == 4


def test_crops_are_squares_of_the_pictures_on_the_grid_of_latents():
    images = torch.randint(0, 256, (2, 128, 128, 3), dtype=torch.uint8)
    cut = crops(images, 6, 64, torch.Generator().manual_seed(0))
    pixels = to_pixels(images)
    places = [(image, y, x) for image in range(2) for y in range(0, 65, 8) for x in range(0, 65, 8)]
    for square in cut:
        assert any(torch.equal(square, pixels[image, :, y : y + 64, x : x + 64]) for image, y, x in places)


def test_flow_matching_wants_noise_minus_image():
    """A denoiser that knows the image from its latents answers exactly, so its loss is nothing."""
    latents = torch.randn(8, 16, 16, 16)

    def knowing(mixed, sigma, tokens, bare):
        noise = (mixed - latents * (1 - sigma)[:, None, None, None]) / sigma[:, None, None, None]
        return noise - latents

    tokens = torch.zeros(8, 32, dtype=torch.long)
    loss = losses.flow_matching_loss(knowing, latents, tokens, tokens[0], torch.Generator().manual_seed(0))
    assert loss.item() < 1e-4


def test_a_tenth_of_the_captions_is_dropped_and_a_quarter_is_bare():
    seen = []

    def watching(mixed, sigma, tokens, bare):
        seen.append((tokens, bare, sigma))
        return torch.zeros_like(mixed)

    captions = torch.ones(4000, 32, dtype=torch.long)
    empty = torch.zeros(32, dtype=torch.long)
    losses.flow_matching_loss(watching, torch.zeros(4000, 1, 2, 2), captions, empty, torch.Generator().manual_seed(0))
    ((tokens, bare, sigma),) = seen
    assert (tokens == 0).all(1).float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert bare.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert sigma.logit().mean().item() == pytest.approx(0.3, abs=0.02)
    assert sigma.logit().std().item() == pytest.approx(1.2, abs=0.03)


def test_a_push_is_its_formula():
    answers = {1: 1.0, 2: 0.5, 3: 2.0, 0: -1.0}

    def teacher(latents, sigma, tokens):
        return torch.ones_like(latents) * torch.tensor([answers[int(row[0])] for row in tokens])[:, None, None, None]

    texts = torch.tensor([[[1], [2], [3]]]).expand(2, 3, 1)
    pushed = losses.Push(2.5, 3.0, 1.5).velocity(
        teacher, torch.zeros(2, 1, 1, 1), torch.ones(2), texts, torch.tensor([0])
    )
    assert pushed.flatten().tolist() == [1 + 1.5 * 2 + 3.0 * 0.5 + 1.5 * -1.0] * 2


def test_a_student_of_a_straight_guide_learns_its_velocity():
    """Where the guide's velocity is constant, one step and many land in the same place."""
    constant = torch.randn(1, 16, 16, 16)
    guide = lambda latents, sigma, tokens: constant.expand_as(latents)  # noqa: E731
    tokens = torch.zeros(4, 32, dtype=torch.long)
    latents = torch.randn(4, 16, 16, 16)
    loss = losses.student_loss(guide, guide, latents, tokens, 4, torch.Generator().manual_seed(0))
    assert loss.item() < 1e-9
    other = lambda latents, sigma, tokens: constant.expand_as(latents) + 1  # noqa: E731
    loss = losses.student_loss(other, guide, latents, tokens, 4, torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(1, abs=1e-4)


def test_the_autoencoder_loss_is_nothing_for_what_comes_back_and_holds_the_code_only_when_told():
    class Perfect(nn.Module):
        def __init__(self, pixels):
            super().__init__()
            self.encoder = lambda x: torch.randn(8, 16, 16, 16, generator=torch.Generator().manual_seed(1)) * 0.5
            self.decoder = lambda z: pixels

    pixels = torch.rand(8, 3, 128, 128) * 2 - 1
    generator = torch.Generator().manual_seed(0)
    assert losses.autoencoder_loss(Perfect(pixels), pixels, generator, train_code=False).item() == 0
    held = losses.autoencoder_loss(Perfect(pixels), pixels, generator, train_code=True)
    assert held.item() == pytest.approx(0.1, rel=0.05), "a spread of 2 where 1 is wanted"


def test_orthogonalised_matrices_have_singular_values_near_one():
    for shape in ((3, 20, 8), (2, 8, 20), (4, 12, 12)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(*shape)))
        assert values.median().item() == pytest.approx(1, abs=0.3)
        assert values.max().item() < 1.3


def test_the_optimizer_takes_matrices_of_blocks_by_muon_and_slow_ones_at_a_quarter():
    named = [(name, nn.Parameter(torch.ones(4, 4))) for name in ("blocks.attn.to_q", "encoder.first", "other")]
    optimizer = MuonAdamW(named, 0.1, slow="encoder.")
    for _, parameter in named:
        parameter.grad = torch.eye(4)
    optimizer.step(1.0)
    moved = {name: (1 - parameter).diagonal().mean().item() for name, parameter in named}
    assert moved["other"] == pytest.approx(0.1, rel=1e-3)
    assert moved["encoder.first"] == pytest.approx(0.025, rel=1e-3)
    assert moved["blocks.attn.to_q"] == pytest.approx(0.1 * 0.2 * 2, rel=0.3)


def test_the_rate_rises_stays_and_falls():
    shares = [rate_share(step, step / 1000) for step in range(1000)]
    assert shares[0] == 0.01
    assert shares[99:600] == [1.0] * 501
    assert shares[-1] == pytest.approx(0.0025)
    assert all(later <= earlier for earlier, later in pairwise(shares[600:]))


def test_a_stage_lowers_its_loss_and_the_average_follows(tmp_path):
    network = nn.Linear(4, 1)
    target = torch.tensor([[1.0, -2.0, 0.5, 3.0]])

    def loss(done, generator):
        x = torch.randn(16, 4, generator=generator)
        return (network(x) - x @ target.T).square().mean()

    stage = Stage("line", network, network, 16 * 600, 16, 0.05, loss)
    average = Run(tmp_path, CPU, 0, 1e9).train(stage)
    torch.testing.assert_close(average.weight, target, atol=0.02, rtol=0)


def test_a_stage_ends_by_the_clock_too_with_its_rate_at_nothing(tmp_path, monkeypatch):
    """Each step takes a second of a clock of our own; the time before a stop counts."""
    clock = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock[0])
    network = nn.Linear(1, 1)
    seen = []

    def loss(done, generator):
        clock[0] += 1
        seen.append(done)
        if len(seen) == 4:
            raise StoppedError
        return network(torch.ones(1, 1)).square().sum()

    stage = Stage("clock", network, network, 10**6, 1, 0.1, loss, seconds=10)
    with pytest.raises(StoppedError):
        Run(tmp_path, CPU, 0, 0).train(stage)
    clock[0] += 1000
    Run(tmp_path, CPU, 0, 0).train(stage)
    assert seen == pytest.approx([0, 0.1, 0.2, 0.3, *(share / 10 for share in range(3, 10))], abs=1e-5)


def test_the_round_trip_of_nothing_is_poor_and_sheets_are_written(tmp_path):
    class Gray(nn.Module):
        encoder = staticmethod(lambda pixels: pixels)
        decoder = staticmethod(torch.zeros_like)

    class Same(Gray):
        decoder = staticmethod(lambda pixels: pixels)

    gray, same = round_trip_db(Gray(), CPU), round_trip_db(Same(), CPU)
    assert 5 < gray["round_trip_db"] < 15
    assert min(same.values()) > 80
    write_sheet(tmp_path / "sheet.png", [torch.zeros(3, 3, 8, 8), torch.ones(3, 3, 8, 8)])
    assert Path(tmp_path / "sheet.png").exists()


def test_tokens_keep_commas_and_cut_what_is_too_long():
    tokenizer = Tokenizer()
    tokens = tokenizer("in the snow, a red car")
    assert tokens[0] == tokenizer.begin
    assert tokens[4] == tokenizer.ids[",</w>"]
    assert tokens[8:] == [tokenizer.end] * 24
    assert len(tokenizer("red " * 50)) == 32


PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "train-tiny.md").read_text()


def test_the_commands_of_the_how_to_are_ones_that_training_takes():
    commands = re.findall(r"python -m vsf\.tiny\.training ([^`\n]*)", PAGE)
    assert len(commands) == 4
    for arguments in commands:
        command.parser().parse_args(arguments.split())


def test_the_how_to_has_the_images_of_every_stage():
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| ([\d,]+) / ([\d,]+) \|", PAGE, re.MULTILINE)
    assert tuple(name for name, *_ in rows) == STAGES
    for column, device in ((1, "cpu"), (2, "cuda")):
        assert ",".join(row[column].replace(",", "") for row in rows) == command.DEFAULT_IMAGES[device]
