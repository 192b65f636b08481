"""Time a guided model call in the host over a plain one, on the CPU: two SD3 blocks of full width.

    COMFYUI_PATH=... PYTHONPATH=src:tests:apps/comfyui python -m comfyui.speed [pairs]

1,024 image and 77 text tokens of width 1,536, a negative of 8 tokens, batch 1, two threads. Pairs of calls are
interleaved; the median of their ratios and a 95 % interval of it are printed. Run it on a quiet machine.
"""

import random
import statistics
import sys
import time

import torch

import vsf
from comfyui import real
from comfyui.cases import Case
from comfyui.guiding import call_once, guided, prepared

METHODS = {
    "vsf": vsf.ValueSignFlip(scale=1.7),
    "vsf, offset": vsf.ValueSignFlip(scale=1.7, offset=0.3),
    "vsf, orthogonal": vsf.ValueSignFlip(scale=1.7, orthogonal=True),
    "nag": vsf.NormalizedAttentionGuidance(),
}


def model():
    """Return a model of two blocks of SD3's width."""
    embedder = {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 1536}}
    return real._model(
        "SD3",
        "SD3",
        dict(
            in_channels=16, patch_size=2, depth=24, num_blocks=2, pos_embed_max_size=96, num_patches=9216,
            pos_embed_scaling_factor=None, adm_in_channels=2048, context_embedder_config=embedder, qk_norm="rms",
            input_size=None, x_block_self_attn_layers=[],
        ),
    )  # fmt: skip


def interval(ratios: list[float]) -> tuple[float, float]:
    """Return a 95 % bootstrap interval of the median."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(1000))
    return medians[25], medians[974]


@torch.no_grad()
def main(pairs: int) -> None:
    torch.set_num_threads(2)
    patcher = model()
    case = Case("sd3", (1, 16, 64, 64), channels=4096, pooled=2048)
    x = case.latents(1)
    t = torch.full((1,), 0.7)
    text, conds = prepared(patcher.model, case, case.conditioning(77, 2), x)

    def seconds(model) -> float:
        began = time.perf_counter()
        call_once(model, x, t, text, conds)
        return time.perf_counter() - began

    for name, method in METHODS.items():
        guided_model = guided(patcher, case.conditioning(8, 3), method=method)
        for _ in range(3):
            seconds(guided_model)
            seconds(patcher)
        ratios = []
        for pair in range(pairs):
            # The order alternates, so that neither call always profits from the other's warm caches.
            if pair % 2:
                guided_seconds = seconds(guided_model)
                plain_seconds = seconds(patcher)
            else:
                plain_seconds = seconds(patcher)
                guided_seconds = seconds(guided_model)
            ratios.append(guided_seconds / plain_seconds)
        low, high = interval(ratios)
        print(f"ComfyUI {real.VERSION}, {name}: {statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
