"""Compile the fused kernel for GPUs that are not here, without launching it. A script of its own: no interpreter."""

import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch
import triton
from triton.backends.compiler import GPUTarget

from vsf.attention import fused
from vsf.attention.fused import Keys, Rows, Shared, Watch
from vsf.attention.fused.kernels import guide

SHARED_MEMORY = 99 * 1024  # a block's on the GPUs that have least of it, compute capability 8.6 and 8.9
SPILLED = 128  # bytes a thread may keep outside of its registers; a tile too large spills thousands
DISASSEMBLER = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


class Compiler:
    """Stands in for the kernel: compiles what would be launched."""

    def __init__(self):
        self.compiled = []

    def __getitem__(self, grid):
        def compile_only(*arguments, **sizes):
            kernel = guide.warmup(*arguments, grid=grid, **sizes)
            self.compiled.append(({**sizes, "arch": kernel.metadata.target.arch}, kernel))

        return compile_only


def use_gpu(capability):
    target = GPUTarget("cuda", capability, 32)
    driver = {"get_current_device": 0, "get_current_stream": 0, "get_current_target": target}
    triton.runtime.driver.set_active(SimpleNamespace(**{name: lambda *_, v=v: v for name, v in driver.items()}))
    guide.device_caches.clear()


def spilled(kernel):
    """Bytes of registers that did not fit."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage = subprocess.run([DISASSEMBLER, "-res-usage", file.name], capture_output=True, text=True, check=True)
    return int(usage.stdout.split("STACK:")[1].split()[0])


def call(method, dtype, channels, negatives=8, number=2.0, strength=1.0, **options):
    def tensor(tokens):
        return torch.zeros(1, 4, tokens, channels, dtype=dtype)

    rows = Rows(tensor(256), tensor(256), torch.zeros(1, 4, 256), strength)
    numbers = [number] * {"flip": 2, "nag": 3}.get(method, 1)
    if options.pop("joint", False):
        options["positive"] = Keys(tensor(77), tensor(77), torch.zeros(1, 77))
    if options.pop("beside", False):
        options["shared"] = Shared(tensor(256), torch.zeros(1, 4, 256))
    if options.pop("watched", False):
        options["watch"] = Watch(torch.zeros(negatives, dtype=torch.int32), 1)
    getattr(fused, method)(rows, Keys(tensor(negatives), tensor(negatives)), *numbers, **options)


def check(condition, message):
    if not condition:
        sys.exit(message)


compiler = fused.guide = Compiler()
for capability, dtype, channels in ((89, torch.float16, 40), (90, torch.bfloat16, 128)):
    use_gpu(capability)
    call("flip", dtype, channels, negatives=77)
    call("flip", dtype, channels, orthogonal=True, watched=True)
    call("flip", dtype, channels, centred=True)
    call("nasa", dtype, channels, joint=True)
    call("ong", dtype, channels, beside=True)
    call("nag", dtype, channels, negatives=77, joint=True)
use_gpu(86)
call("nag", torch.float32, 64, joint=True)
call("nag", torch.bfloat16, 256, joint=True)
for sizes, kernel in compiler.compiled:
    check(kernel.metadata.shared <= SHARED_MEMORY, f"{kernel.metadata.shared} bytes of shared memory: {sizes}")
    check(spilled(kernel) <= SPILLED, f"{spilled(kernel)} bytes spilled: {sizes}")

use_gpu(90)
call("flip", torch.float16, 64, negatives=8)
for negatives, number in ((1, 1.0), (3, 0.0), (16, 1.14), (7, torch.inf)):
    call("flip", torch.float16, 64, negatives=negatives, number=number, strength=number)
check(len(guide.device_caches[0][0]) == 1, "other numbers or lengths were compiled anew")
print(f"{len(compiler.compiled)} compiled")
