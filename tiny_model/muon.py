"""Muon in float32: torch's own works in bfloat16, which a CPU without such instructions does a hundred times slower."""

import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import nn

ROUNDS = 5


class Muon(torch.optim.Optimizer):
    """Momentum whose matrix is made orthogonal, scaled to the step size of AdamW."""

    def __init__(self, weights: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.05) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for shape in {weight.shape for weight in group["params"]}:
                self._step([weight for weight in group["params"] if weight.shape == shape], group)

    def _step(self, weights: list[nn.Parameter], group: dict[str, Any]) -> None:
        ahead = []
        for weight in weights:
            grad = cast("torch.Tensor", weight.grad)
            held = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
            held.lerp_(grad, 1 - group["momentum"])
            ahead.append(grad.lerp(held, group["momentum"]))
        scale = 0.2 * math.sqrt(max(weights[0].shape))
        for weight, update in zip(weights, _orthogonal(torch.stack(ahead)), strict=True):
            weight.mul_(1 - group["lr"] * group["decay"])
            weight.add_(update, alpha=-group["lr"] * scale)


def _orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """Newton-Schulz: singular values towards one, vectors kept."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x
