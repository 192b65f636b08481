"""Muon for the matrices within blocks, AdamW for everything else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

_MUON_NAMES = (".attn.", ".ff", ".encoder.layers.")
"""Parts of a parameter's name that mark it as one within a block."""


class MuonAdamW:
    """Muon (Jordan et al. 2024; scaled as in arXiv:2502.16982) and AdamW, with one learning rate.

    Args:
        named: Names and parameters to train.
        rate: Peak learning rate of both.
        slow: Prefix of the names of parameters that AdamW trains at a quarter of the rate: those that start from a
            good solution.
    """

    def __init__(self, named: Sequence[tuple[str, nn.Parameter]], rate: float, slow: str = "") -> None:
        self.rate = rate
        # Matrices of one shape are stacked, so that all of them are orthogonalised in one batch.
        self.matrices: dict[tuple[int, ...], list[nn.Parameter]] = {}
        by_rate_share: dict[float, list[nn.Parameter]] = {}
        for name, parameter in named:
            if parameter.ndim == 2 and any(part in name for part in _MUON_NAMES):
                self.matrices.setdefault(tuple(parameter.shape), []).append(parameter)
            else:
                share = 0.25 if slow and name.startswith(slow) else 1.0
                by_rate_share.setdefault(share, []).append(parameter)
        self.rate_shares = sorted(by_rate_share)
        groups = [{"params": by_rate_share[share]} for share in self.rate_shares]
        self.adam = torch.optim.AdamW(groups, rate, betas=(0.9, 0.98), weight_decay=0.0)
        self.momenta: dict[tuple[int, ...], Tensor] = {}
        for shape, parameters in self.matrices.items():
            self.momenta[shape] = torch.zeros(len(parameters), *shape, device=parameters[0].device)

    @torch.no_grad()
    def step(self, fraction: float) -> None:
        """Take a step at this fraction of the peak rate."""
        for group, share in zip(self.adam.param_groups, self.rate_shares, strict=True):
            group["lr"] = self.rate * fraction * share
        self.adam.step()
        for shape, parameters in self.matrices.items():
            gradients = torch.stack([_gradient(parameter) for parameter in parameters])
            momentum = self.momenta[shape].lerp_(gradients, 0.05)
            # Nesterov momentum: the gradient counts once more.
            updates = orthogonalised(torch.lerp(gradients, momentum, 0.95))
            # 0.2 sqrt(longer side) gives a step the size of AdamW's, so that both share a rate (arXiv:2502.16982).
            size = self.rate * fraction * 0.2 * math.sqrt(max(shape))
            torch._foreach_add_([*parameters], list(updates.unbind()), alpha=-size)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        self.adam.zero_grad(set_to_none=True)
        for parameters in self.matrices.values():
            for parameter in parameters:
                parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Return the state that `load_state_dict` takes to go on from here."""
        return {"adam": self.adam.state_dict(), "momenta": list(self.momenta.values())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.adam.load_state_dict(state["adam"])
        for momentum, saved in zip(self.momenta.values(), state["momenta"], strict=True):
            momentum.copy_(saved)


def orthogonalised(matrices: Float[Tensor, "stack rows columns"]) -> Float[Tensor, "stack rows columns"]:
    """Move matrices towards the nearest orthogonal ones by five Newton-Schulz iterations."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    y = (matrices.mT if tall else matrices).to(torch.bfloat16 if matrices.is_cuda else matrices.dtype)
    y = y / (y.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    # Muon's coefficients: singular values soon come near 1, but do not converge to it.
    for _ in range(5):
        a = y @ y.mT
        y = 3.4445 * y + (-4.7750 * a + 2.0315 * a @ a) @ y
    return (y.mT if tall else y).to(matrices.dtype)


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
