"""The Muon optimiser: momentum whose matrix steps are made orthogonal.

A step for a weight matrix is replaced by the nearest (semi-)orthogonal matrix, found by a few
Newton-Schulz iterations, which lets a small model learn from fewer tokens than Adam does.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

_ITERATIONS = 5
_A, _B, _C = 3.4445, -4.7750, 2.0315  # the quintic that pulls singular values towards 1


def orthogonalise(matrices: Tensor) -> Tensor:
    """Return (count, rows, columns) matrices with singular values near 1."""
    tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for a list of weight matrices; matrices of one shape are stepped together."""

    def __init__(self, weights: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        """Keep one momentum buffer per matrix."""
        super().__init__(list(weights), {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # noqa: ARG002 - the base class has it
        """Move every matrix by its orthogonalised Nesterov momentum."""
        for group in self.param_groups:
            by_shape: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                by_shape[weight.shape].append(weight)
            for shape, weights in by_shape.items():
                steps = torch.stack([self._momentum(weight, group["momentum"]) for weight in weights])
                scale = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                for weight, step in zip(weights, orthogonalise(steps), strict=True):
                    weight.mul_(1 - group["lr"] * 0.01).sub_(step, alpha=scale)

    def _momentum(self, weight: Tensor, decay: float) -> Tensor:
        """Update a matrix's momentum and look one step ahead."""
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        gradient = weight.grad if weight.grad is not None else torch.zeros_like(weight)
        state["momentum"].lerp_(gradient, 1 - decay)
        return gradient.lerp(state["momentum"], decay)
