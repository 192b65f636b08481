"""One checkout of vsf at work for the speed benchmark, in a process of its own. Commands and answers are JSON lines.

Works with whatever `vsf` is on the path, through its public names, so that an older checkout can be timed beside a
newer one on the same machine: while one answers, the other waits.
"""

import contextlib
import gc
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from speed_models import MODELS, moved
from speed_references import DenseMask, DoubledRows, nag, nasa, processor
from torch.utils._python_dispatch import TorchDispatchMode

import vsf

METHODS: dict[str, Callable[[], Any]] = {
    "vsf": lambda: vsf.ValueSignFlip(scale=1.14, offset=-0.644),
    "vsf orthogonal": lambda: vsf.ValueSignFlip(scale=4.0, orthogonal=True),
    "nag": lambda: vsf.NormalizedAttentionGuidance(**vsf.NormalizedAttentionGuidance.PRESETS["nag++"]),
    "nasa": vsf.NegativeAwaySteerAttention,
    "ong": vsf.OrthogonalNegativeGuidance,
    "negpip": vsf.NegativeInPrompt,
}
ERROR_TOKENS = 1024
"""Image tokens at which the error against float64 is taken, in one layer: the same in double precision has to fit."""

Entered = Callable[[], AbstractContextManager[Any]]
Call = Callable[[], Any]


class Bench:
    """One model with its inputs, and the ways to run it."""

    def __init__(
        self,
        model: str,
        batch: int,
        tokens: int,
        negative: int,
        small: bool,
        mode: str,
        device: str,
        layers: int | None,
    ) -> None:
        torch.manual_seed(0)
        self.spec, self.small, self.device = MODELS[model], small, device
        self.dtype = self.spec.dtype if device == "cuda" else torch.float32
        self.batch, self.tokens, self.negative = batch, tokens, negative
        self.module = self._built(layers)
        self.inputs = self._inputs(self.module, batch, tokens)
        if mode == "compiled":
            compile_blocks(self.module)
        self.runs = self._runs()

    def run(self, name: str) -> tuple[Entered, Call]:
        """Return what is entered outside of the timing, and the call that is timed."""
        return self.runs[name]

    def errors(self, names: list[str]) -> dict[str, float]:
        """Return each run's error in one layer against the same in float64, relative to the largest output."""
        module = self._built(1)
        tokens = min(self.tokens, ERROR_TOKENS)
        inputs = self._inputs(module, self.batch, tokens)
        outs = {name: self._output(module, inputs, name) for name in names}
        exact = moved(inputs, self.device, torch.float64)
        module = module.double()
        errors = {}
        for name, out in outs.items():
            expected = self._output(module, exact, name)
            errors[name] = ((out.double() - expected).abs().max() / expected.abs().max()).item()
        return errors

    def _built(self, layers: int | None) -> Any:
        before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            with torch.device(self.device):
                module = self.spec.build(self.small, layers)
        finally:
            torch.set_default_dtype(before)
        return module.to(self.device, self.dtype).eval().requires_grad_(False)

    def _inputs(self, module: Any, batch: int, tokens: int) -> dict[str, Any]:
        inputs = moved(self.spec.inputs(module, batch, tokens), self.device, self.dtype)
        return {**inputs, "return_dict": False}

    def _output(self, module: Any, inputs: dict[str, Any], name: str) -> torch.Tensor:
        with contextlib.nullcontext() if name == "none" else self._guide(module, name):
            out = module(**inputs)[0]
        return torch.stack(list(out)) if isinstance(out, list) else out

    def _guide(self, module: Any, name: str) -> AbstractContextManager[Any]:
        """Guide with random embeddings, the same ones every time."""
        dtype = next(module.parameters()).dtype
        generator = torch.Generator().manual_seed(1)
        embedding = torch.randn(self.negative, self.spec.channels(module), generator=generator).to(self.dtype)
        # An embedding without a text of its own stands for the one prompt of each batch row.
        negative = vsf.Negative((embedding.to(self.device, dtype),) * self.batch)
        return vsf.guide(module, negative=negative, method=METHODS[name]())

    def _runs(self) -> dict[str, tuple[Entered, Call]]:
        module, inputs = self.module, self.inputs
        runs: dict[str, tuple[Entered, Call]] = {"none": (contextlib.nullcontext, partial(module, **inputs))}
        for name in METHODS:
            runs[name] = (partial(self._guide, module, name), partial(module, **inputs))
        if type(module).__name__ != "SD3Transformer2DModel" or self.batch > 1:
            return runs
        text = inputs["encoder_hidden_states"]
        more = partial(module, **{**inputs, "encoder_hidden_states": torch.cat([text, text[:, : self.negative]], 1)})
        twice = partial(module, **{**inputs, "encoder_hidden_states": torch.cat([text, text])})
        runs["dense mask (vsf)"] = (partial(processor, module, DenseMask(self.negative, 1.14, -0.644)), more)
        runs["doubled rows (nasa)"] = (partial(processor, module, DoubledRows(nasa)), twice)
        runs["doubled rows (nag)"] = (partial(processor, module, DoubledRows(nag)), twice)
        return runs


def compile_blocks(module: Any) -> None:
    """Compile each repeated block, as diffusers' `compile_repeated_blocks` does for models that name theirs."""
    if getattr(module, "_repeated_blocks", None):
        module.compile_repeated_blocks()
        return
    for blocks in module.children():
        if isinstance(blocks, torch.nn.ModuleList):
            for block in blocks:
                block.compile()


# One command each ---------------------------------------------------------------------------------------------------


def synchronize() -> None:
    """Wait for the device, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def warm(bench: Bench, name: str) -> dict[str, Any]:
    """Run until nothing is compiled any more, and tell what a single call shows: memory, synchronisations, kernels."""
    entered, call = bench.run(name)
    with torch.no_grad(), entered():
        start = time.perf_counter()
        call()
        synchronize()
        answer: dict[str, Any] = {"first_call_s": time.perf_counter() - start}
        call()
        synchronize()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            call()
            synchronize()
            answer["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
            answer["syncs"] = synchronisations(call)
        answer["kernels"] = kernels(call)
    graphs = sys.modules.get("torch._dynamo.utils")
    answer["graphs"] = 0 if graphs is None else graphs.counters["stats"]["unique_graphs"]
    return answer


def measure(bench: Bench, name: str) -> dict[str, float]:
    """Time one call: on a GPU by its events, and apart from that how long launching took.

    On a CPU the threads of the worker that ran before spin for some milliseconds; an untimed call waits them out.
    """
    entered, call = bench.run(name)
    with torch.no_grad(), entered():
        if not torch.cuda.is_available():
            call()
            start = time.perf_counter()
            call()
            return {"ms": 1e3 * (time.perf_counter() - start)}
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        synchronize()
        start = time.perf_counter()
        first.record()
        call()
        last.record()
        launched = time.perf_counter() - start
        synchronize()
        return {"ms": first.elapsed_time(last), "launch_ms": 1e3 * launched}


def synchronisations(call: Call) -> int:
    """Count how often a call waits for the device."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message).lower() for warning in caught)


def kernels(call: Call, most: int = 6) -> dict[str, float]:
    """Return the kernels (on a CPU the operations) of one call that took longest, in ms."""
    activity = torch.profiler.ProfilerActivity
    on_gpu = torch.cuda.is_available()
    with torch.profiler.profile(activities=[activity.CUDA if on_gpu else activity.CPU]) as profile:
        call()
        synchronize()
    key = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    events = sorted(profile.key_averages(), key=lambda event: -getattr(event, key))
    return {event.key[:80]: getattr(event, key) / 1e3 for event in events[:most]}


class CountOperations(TorchDispatchMode):
    """Count the operations that launch something: views and mere allocations do not."""

    SILENT = ("empty", "new_empty", "empty_like", "detach", "alias", "lift_fresh", "_reshape_alias", "_unsafe_view")

    def __init__(self) -> None:
        super().__init__()
        self.launching = self.attention = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count and go on."""
        name = func._schema.name.partition("::")[2]
        aliases = [result.alias_info for result in func._schema.returns]
        is_view = any(alias is not None and not alias.is_write for alias in aliases)
        self.launching += not is_view and name not in self.SILENT
        self.attention += "attention" in name
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def fused_launches() -> Iterator[list[Any]]:
    """Count the launches of the fused kernel, which no dispatch mode sees."""
    grids: list[Any] = []
    fused = sys.modules.get("vsf.attention.fused")
    if fused is None:
        yield grids
        return
    real = fused.guide

    class Counting:
        def __getitem__(self, grid: Any) -> Any:
            grids.append(grid)
            return real[grid]

    fused.guide = Counting()
    try:
        yield grids
    finally:
        fused.guide = real


def count(bench: Bench, name: str) -> dict[str, int]:
    """Count in one call, after a first one: Python calls into vsf, operations, attention calls, fused launches.

    Python calls are those that the package makes within the attention calls of the model, which it stands in for.
    """
    entered, call = bench.run(name)
    package = str(Path(vsf.__file__).parent) + os.sep
    calls = depth = 0

    def profile(frame: Any, event: str, _: Any) -> None:
        nonlocal calls, depth
        if not frame.f_code.co_filename.startswith(package):
            return
        stands_in = frame.f_code.co_name == "attention"
        if event == "call":
            depth += stands_in
            calls += depth > 0
        elif event == "return":
            depth -= stands_in

    with torch.no_grad(), entered():
        call()
        with CountOperations() as operations, fused_launches() as grids:
            call()
        sys.setprofile(profile)
        try:
            call()
        finally:
            sys.setprofile(None)
    launching = operations.launching + len(grids)
    return {"python_calls": calls, "operations": launching, "attention": operations.attention, "fused": len(grids)}


def main() -> None:
    """Answer commands until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints must not come between the answers
    warnings.filterwarnings("ignore")
    diffusers.utils.logging.set_verbosity_error()
    if threads := os.environ.get("SPEED_THREADS"):
        torch.set_num_threads(int(threads))
    bench: Bench | None = None
    for line in sys.stdin:
        command = json.loads(line)
        do = command.pop("do")
        try:
            if do == "open":
                bench = None
                gc.collect()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                bench = Bench(**command)
                answer: dict[str, Any] = {"runs": list(bench.runs)}
            else:
                assert bench is not None
                actions: dict[str, Callable[..., Any]] = {"warm": warm, "measure": measure, "count": count}
                answer = bench.errors(**command) if do == "errors" else actions[do](bench, **command)
        except Exception as error:  # noqa: BLE001 a row says what went wrong, and the next setting is tried
            answer = {"failed": f"{type(error).__name__}: {error}"[:400]}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
