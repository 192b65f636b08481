"""What guidance costs: every method against the unguided model, interleaved, on real shapes with random weights.

    python benchmarks/speed.py                      # the shapes of this machine: a GPU's, or the CPU's with its bounds
    python benchmarks/speed.py --against ../old/src # another checkout beside it, in the same rounds
    python benchmarks/speed.py --rehearse           # what a GPU would run, in tiny shapes on the CPU
    python benchmarks/speed.py --table              # docs/performance.md's tables and plots from the rows

A row is appended to a JSONL file as soon as a setting is measured; what is there already, of the same code on the same
machine, is not measured again. Times are medians over rounds; a round calls every run once, in turn, so that whatever
else the machine does meets all of them. Intervals hold the median with 95 % probability (order statistics).
Exit code 1: a bound on the CPU is broken, that is, the whole interval lies above it.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from speed_rows import BOUNDS, Bound, broken, median, order_interval, read_rows
from speed_rows import append as append_row

HERE = Path(__file__).parent
RESULTS = HERE / "results"
CHECKOUT = "here"
AGAINST = "against"
ALL = ("none", "vsf", "vsf orthogonal", "nag", "nasa", "ong", "negpip")
CHIEF = ("none", "vsf", "vsf orthogonal", "nag")
REFERENCES = ("dense mask (vsf)", "doubled rows (nasa)", "doubled rows (nag)")


@dataclass(frozen=True)
class Setting:
    """One model in one size, and which ways to run it are compared."""

    model: str
    tokens: int
    negative: int = 8
    batch: int = 1
    mode: str = "eager"
    runs: tuple[str, ...] = CHIEF
    layers: int | None = None
    rounds: int = 15


def cpu_settings() -> list[Setting]:
    """Settings that a CPU can run, with bounds."""
    blocks = (*ALL, *REFERENCES)
    return [
        Setting("sd3-blocks", 1024, runs=blocks, rounds=30),
        Setting("wan-block", 1560, runs=ALL, rounds=30),
        Setting("tiny", 64, runs=ALL, rounds=60),
        Setting("tiny", 64, batch=8, runs=ALL, rounds=60),
    ]


def gpu_settings() -> list[Setting]:
    """Settings for a GPU, the most telling first: time may run out."""
    sizes = {"sd3.5-large": 4096, "flux.1": 4096, "qwen-image": 4096, "sdxl": 4096, "wan-1.3b": 32760, "z-image": 4096}
    settings = [Setting("sd3.5-large", 4096, runs=(*ALL, *REFERENCES))]
    settings += [Setting(model, tokens) for model, tokens in list(sizes.items())[1:]]
    settings += [Setting(model, tokens, mode="compiled") for model, tokens in sizes.items()]
    settings += [Setting("sd3.5-large", 4096, negative=length) for length in (16, 64, 256)]
    settings += [Setting("sd3.5-large", tokens) for tokens in (256, 1024, 16384, 32400)]
    settings += [Setting(model, tokens, batch=4, rounds=8) for model, tokens in sizes.items() if model != "qwen-image"]
    return [*settings, Setting("wan-14b", 32760, rounds=5)]


def rehearsal_settings() -> list[Setting]:
    """The GPU's settings in tiny shapes, each kind once."""
    small = [Setting(s.model, 64, s.negative, s.batch, s.mode, s.runs, rounds=2) for s in gpu_settings()]
    return [setting for at, setting in enumerate(small) if setting not in small[:at]]


class Worker:
    """A checkout of vsf in a process of its own (see speed_worker)."""

    def __init__(self, source: Path, threads: int | None) -> None:
        self.source = source.resolve()
        self.code = fingerprint(self.source)
        path = os.pathsep.join([str(self.source), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
        if threads is not None:
            environment["SPEED_THREADS"] = str(threads)
        command = [sys.executable, str(HERE / "speed_worker.py")]
        pipe = subprocess.PIPE
        # What libraries have to say would tear the progress bars apart.
        self.log = TemporaryFile("w+")  # noqa: SIM115 closed with the process
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.log, text=True, env=environment)

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and wait for the answer. Raises RuntimeError when the process has ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(
                f"the worker for {self.source} ended with code {self.process.wait()} at {do} {arguments}"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.log.close()


def fingerprint(source: Path) -> str:
    """Return what tells one state of the code from another: a hash of the package's files."""
    files = sorted((source / "vsf").rglob("*.py"))
    if not files:
        raise SystemExit(f"{source} holds no package vsf; --against takes the src folder of a checkout")
    parts = (file.relative_to(source).as_posix().encode() + file.read_bytes() for file in files)
    return hashlib.sha256(b"".join(parts)).hexdigest()[:10]


def hardware(device: str) -> dict[str, Any]:
    """Describe the machine and the versions, as every row does."""
    name = platform.processor() or platform.machine()
    if device == "cuda":
        import torch

        name = torch.cuda.get_device_name()
    elif Path("/proc/cpuinfo").exists():
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        name = models[0].partition(": ")[2] if models else name
    versions = {package: version(package) for package in ("torch", "diffusers")}
    return {"hardware": name, "python": platform.python_version(), **versions}


def measure(
    setting: Setting, workers: dict[str, Worker], device: str, small: bool, deadline: float, progress: Progress
) -> Iterator[dict[str, Any]]:
    """Measure one setting with every worker; yields a row for each run of each."""
    task = progress.add_task(
        f"{setting.model} {setting.mode} batch {setting.batch}, {setting.tokens} + {setting.negative}"
    )
    progress.update(task, total=setting.rounds)
    sizes = {name: getattr(setting, name) for name in ("model", "batch", "tokens", "negative", "mode", "layers")}
    runs: dict[tuple[str, str], dict[str, Any]] = {}
    for label, worker in workers.items():
        opened = worker.ask("open", **sizes, small=small, device=device)
        if "failed" in opened:
            yield {"checkout": label, "run": "none", **opened}
            continue
        for name in (name for name in setting.runs if name in opened["runs"]):
            warmed = worker.ask("warm", name=name)
            if "failed" in warmed:
                yield {"checkout": label, "run": name, **warmed}
            else:
                runs[label, name] = warmed
    times: dict[tuple[str, str], list[dict[str, float]]] = {key: [] for key in runs}
    order, shuffle = list(runs), random.Random(0)
    for _ in range(setting.rounds):
        if time.monotonic() > deadline:
            break
        shuffle.shuffle(order)  # so that no run always comes after the same one
        for label, name in order:
            times[label, name].append(workers[label].ask("measure", name=name))
        progress.advance(task)
    errors = {}
    for label, worker in workers.items():
        names = [name for other, name in runs if other == label and name in ALL]  # references stand for time alone
        errors[label] = worker.ask("errors", names=names) if names else {}
    for (label, name), taken in times.items():
        if taken and times.get((label, "none")):
            against = (times.get((AGAINST, name)), times.get((AGAINST, "none"))) if label == CHECKOUT else (None, None)
            row = summary(taken, times[label, "none"], runs[label, name], runs[label, "none"], *against)
            yield {"checkout": label, "run": name, "error": errors[label].get(name), **row}
    progress.remove_task(task)


def summary(
    taken: list[dict[str, float]],
    base: list[dict[str, float]],
    warmed: dict[str, Any],
    warmed_base: dict[str, Any],
    against: list[dict[str, float]] | None,
    against_base: list[dict[str, float]] | None,
) -> dict[str, Any]:
    """Reduce the rounds to medians with their intervals."""
    ratios = [one["ms"] / other["ms"] for one, other in zip(taken, base, strict=True)]
    row: dict[str, Any] = {"n": len(taken), "ms": median([one["ms"] for one in taken]), "ratio": median(ratios)}
    row["lo"], row["hi"] = order_interval(ratios)
    row["added_ms"] = median(added_times(taken, base))
    if "launch_ms" in taken[0]:
        row["launch_ms"] = median([one["launch_ms"] for one in taken])
    if against and against_base:
        quotients = [one["ms"] / other["ms"] for one, other in zip(taken, against, strict=True)]
        row["over_against"] = median(quotients)
        row["over_against_lo"], row["over_against_hi"] = order_interval(quotients)
        if taken is not base:
            row |= added_over(added_times(taken, base), added_times(against, against_base))
    if "memory_gib" in warmed:
        row["memory_ratio"] = warmed["memory_gib"] / warmed_base["memory_gib"]
    return {**row, **warmed}


def added_times(taken: list[dict[str, float]], base: list[dict[str, float]]) -> list[float]:
    """Return what each round took longer than the unguided model, in ms."""
    return [one["ms"] - other["ms"] for one, other in zip(taken, base, strict=True)]


def added_over(added: Sequence[float], before: Sequence[float]) -> dict[str, float]:
    """Compare the time that guidance adds with what it added before; the interval is made of the ends of both."""
    (low, high), (low_before, high_before) = order_interval(added), order_interval(before)
    if low_before <= 0:
        return {}  # lost in the noise: nothing to compare with
    ratio = {"added_over_against": median(added) / median(before)}
    return {**ratio, "added_over_against_lo": low / high_before, "added_over_against_hi": high / low_before}


def counts(worker: Worker, runs: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Count per guided joint layer: the difference between four layers and two, so that once-a-call work drops out."""
    totals: dict[int, dict[str, dict[str, int]]] = {}
    for layers in (2, 4):
        sizes = {"model": "sd3-blocks", "batch": 1, "tokens": 64, "negative": 8, "mode": "eager", "layers": layers}
        worker.ask("open", **sizes, small=True, device="cpu")
        totals[layers] = {name: worker.ask("count", name=name) for name in runs}
    for name in runs:
        per_layer = {key: (totals[4][name][key] - totals[2][name][key]) / 2 for key in totals[4][name]}
        bare = (totals[4]["none"]["operations"] - totals[2]["none"]["operations"]) / 2
        yield {"run": name, **per_layer, "added_operations": per_layer["operations"] - bare}


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """Print what was measured."""
    table = Table(
        "model", "mode", "checkout", "run", "ms", "ratio", "95 % interval", "launch ms", "memory", "error", "n"
    )
    for row in rows:
        if "ratio" not in row:
            continue
        table.add_row(
            f"{row['model']} batch {row['batch']}, {row['tokens']} + {row['negative']}",
            row["mode"],
            row["checkout"],
            row["run"],
            f"{row['ms']:.2f}",
            f"{row['ratio']:.4f}",
            f"{row['lo']:.4f} to {row['hi']:.4f}",
            f"{row['launch_ms']:.2f}" if "launch_ms" in row else "",
            f"{row['memory_ratio']:.3f}" if "memory_ratio" in row else "",
            "" if row.get("error") is None else f"{row['error']:.1e}",
            str(row["n"]),
        )
    console.print(table)
    for row in rows:
        if "failed" in row:
            console.print(f"failed: {row['model']} {row['mode']} {row['checkout']} {row['run']}: {row['failed']}")
        if "added_operations" in row:
            console.print(
                f"per joint layer, {row['checkout']}, {row['run']}: {row['python_calls']:g} Python calls in attention, "
                f"{row['added_operations']:g} operations added, {row['attention']:g} attention calls, "
                f"{row['fused']:g} fused launches"
            )


def main() -> None:
    """Run the benchmark, or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600, help="start nothing new after so many seconds")
    parser.add_argument("--against", type=Path, help="src folder of another checkout, timed in the same rounds")
    parser.add_argument("--out", type=Path, help="JSONL file that rows are appended to")
    parser.add_argument("--models", nargs="+", help="only these models")
    parser.add_argument("--rounds", type=int, help="rounds of every setting")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument("--rehearse", action="store_true", help="what a GPU would run, in tiny shapes on the CPU")
    parser.add_argument("--table", action="store_true", help="write the tables and plots of docs/performance.md")
    options = parser.parse_args()
    if options.table:
        from speed_table import write

        write(RESULTS, HERE.parent / "docs")
        return
    sys.exit(run(options))


def run(options: argparse.Namespace) -> int:
    """Measure, print, and return the exit code."""
    import torch

    console = Console(width=None if sys.stdout.isatty() else 180)
    on_gpu = torch.cuda.is_available() and not options.rehearse
    device = "cuda" if on_gpu else "cpu"
    settings = gpu_settings() if on_gpu else rehearsal_settings() if options.rehearse else cpu_settings()
    name = "speed-gpu" if on_gpu else "speed-rehearsal.unfinished" if options.rehearse else "speed-cpu"
    out = options.out or RESULTS / f"{name}.jsonl"
    sources = {CHECKOUT: HERE.parent / "src"} | ({AGAINST: options.against} if options.against else {})
    about = hardware(device)
    deadline = time.monotonic() + options.seconds
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack, Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()) as progress:
        workers = {label: Worker(source, None if on_gpu else options.threads) for label, source in sources.items()}
        for worker in workers.values():
            stack.callback(worker.close)
        codes = {label: worker.code for label, worker in workers.items()}
        known = {row["key"] for row in read_rows(out)}

        def keep(row: dict[str, Any], key: str, **sizes: Any) -> None:
            code = codes[row["checkout"]]
            full = {"key": key, "when": time.strftime("%Y-%m-%d"), **about, "code": code, **sizes, **row}
            rows.append(full)
            append_row(out, full)

        for setting in progress.track(settings, description="settings"):
            if options.models and setting.model not in options.models:
                continue
            if options.rounds:
                setting = Setting(**{**asdict(setting), "rounds": options.rounds})
            sizes = {key: value for key, value in asdict(setting).items() if key not in ("runs", "rounds", "layers")}
            key = json.dumps([about, codes, sizes, setting.runs], sort_keys=True)
            key = hashlib.sha256(key.encode()).hexdigest()[:12]
            if key in known:
                rows += [row for row in read_rows(out) if row["key"] == key]
            elif time.monotonic() < deadline:
                for row in measure(setting, workers, device, options.rehearse, deadline, progress):
                    keep(row, key, **sizes)
        if not on_gpu and not options.rehearse:
            for label, worker in workers.items():
                key = f"counts {label} {codes[label]}"
                if key in known:
                    rows += [row for row in read_rows(out) if row["key"] == key]
                    continue
                for row in counts(worker, ALL):
                    keep({"checkout": label, **row}, key, model="sd3-blocks")
    show(rows, console)
    failures: list[tuple[Bound, dict[str, Any]]] = [] if on_gpu or options.rehearse else broken(rows, BOUNDS)
    for bound, row in failures:
        console.print(f"[red]above its bound[/]: {bound.describe(row)}")
    return 1 if failures else 0


if __name__ == "__main__":
    main()
