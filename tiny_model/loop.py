"""The training loop of every stage: seeded by step, so that an interrupted run goes on as if it had not been."""

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn

Loss = Callable[[int], torch.Tensor]
SAVE_SECONDS = 120
REPORT_STEPS = 50


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: warm up, stay, then fall along a cosine from a step on."""

    steps: int
    fall_from: int = 0
    warmup: int = 40
    average: float = 0.997

    def rate(self, step: int) -> float:
        done = max(0, step - self.fall_from) / (self.steps - self.fall_from)
        return min(1.0, (step + 1) / self.warmup) * (0.02 + 0.49 * (1 + math.cos(math.pi * done)))

    def keep(self, step: int) -> float:
        """How much of the running average stays; little at first."""
        return min(self.average, (step + 1) / (step + 10))


def train(
    module: nn.Module, optimizers: list[torch.optim.Optimizer], loss: Loss, schedule: Schedule, checkpoint: Path
) -> None:
    """Train to the end of the schedule, from the checkpoint if there is one; the module then holds the average."""
    weights = [weight for group in optimizers for weight in _weights(group)]
    average = [weight.detach().clone() for weight in weights]
    first = _resume(module, optimizers, average, schedule, checkpoint)
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    progress = _Progress(checkpoint.stem, schedule.steps)
    saved = time.monotonic()
    for step in range(first, schedule.steps):
        for optimizer, full in zip(optimizers, rates, strict=True):
            for group, rate in zip(optimizer.param_groups, full, strict=True):
                group["lr"] = rate * schedule.rate(step)
        at = loss(step)
        for optimizer in optimizers:
            optimizer.zero_grad()
        at.backward()
        _agree(weights, at)
        nn.utils.clip_grad_norm_(weights, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, [weight.detach() for weight in weights], 1 - schedule.keep(step))
        if _is_first():
            progress.tell(step + 1, float(at.detach()))
        if _is_first() and (time.monotonic() - saved > SAVE_SECONDS or step + 1 == schedule.steps):
            _set_rates(optimizers, rates)
            _save(module, optimizers, average, step + 1, schedule, checkpoint)
            saved = time.monotonic()
    _put(weights, average)


def load_average(module: nn.Module, weights: list[nn.Parameter], checkpoint: Path) -> int:
    """The running average of a checkpoint into the module; the step it stands at."""
    held = torch.load(checkpoint, map_location="cpu", weights_only=True)
    module.load_state_dict(held["module"])
    _put(weights, held["average"])
    return int(held["step"])


def in_parallel(stage: Callable[..., Any], workers: int, *args: Any) -> None:
    """Run a stage in several processes of one thread each: they share every batch and agree on every step.

    Threads of one process wait for each other in every layer, processes once a step: far less.
    """
    if workers == 1:
        stage(*args)
        return
    with tempfile.TemporaryDirectory() as folder:
        spawn(_work, (workers, f"file://{folder}/meet", stage, args), nprocs=workers)


def my_share(count: int) -> slice:
    """The part of a batch that this process computes."""
    if not dist.is_initialized():
        return slice(0, count)
    rank, workers = dist.get_rank(), dist.get_world_size()
    return slice(count * rank // workers, count * (rank + 1) // workers)


def seed_of(stage: int, step: int) -> int:
    return stage * 1_000_000_007 + step


def _work(rank: int, workers: int, meet: str, stage: Callable[..., Any], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=workers)
    stage(*args)
    dist.destroy_process_group()


def _is_first() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


def _agree(weights: list[nn.Parameter], loss: torch.Tensor) -> None:
    """The mean of all processes' gradients, nearly as if one had seen the whole batch."""
    if not dist.is_initialized():
        return
    flat = torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None] + [loss.detach()[None]])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    at = 0
    for weight in weights:
        if weight.grad is not None:
            weight.grad.copy_(flat[at : at + weight.numel()].view_as(weight))
            at += weight.numel()
    loss.data.copy_(flat[-1])


def _weights(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


@torch.no_grad()
def _put(weights: list[nn.Parameter], values: list[torch.Tensor]) -> None:
    for weight, value in zip(weights, values, strict=True):
        weight.copy_(value)


def _set_rates(optimizers: list[torch.optim.Optimizer], rates: list[list[float]]) -> None:
    for optimizer, full in zip(optimizers, rates, strict=True):
        for group, rate in zip(optimizer.param_groups, full, strict=True):
            group["lr"] = rate


def _resume(
    module: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    average: list[torch.Tensor],
    schedule: Schedule,
    checkpoint: Path,
) -> int:
    if not checkpoint.exists():
        return 0
    held: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if held["schedule"] != asdict(schedule):
        raise ValueError(f"{checkpoint} is of another training, {held['schedule']}: remove it")
    module.load_state_dict(held["module"])
    for optimizer, state in zip(optimizers, held["optimizers"], strict=True):
        optimizer.load_state_dict(state)
    for mean, value in zip(average, held["average"], strict=True):
        mean.copy_(value)
    return int(held["step"])


def _save(
    module: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    average: list[torch.Tensor],
    step: int,
    schedule: Schedule,
    checkpoint: Path,
) -> None:
    half = checkpoint.with_suffix(".half")
    held = {"module": module.state_dict(), "optimizers": [optimizer.state_dict() for optimizer in optimizers]}
    torch.save(held | {"average": average, "step": step, "schedule": asdict(schedule)}, half)
    half.replace(checkpoint)


class _Progress:
    """One line every so many steps: where it stands, the mean loss, and when it will end."""

    def __init__(self, stage: str, steps: int) -> None:
        self._stage, self._steps, self._losses = stage, steps, list[float]()
        self._since = time.monotonic()

    def tell(self, step: int, loss: float) -> None:
        self._losses.append(loss)
        if step % REPORT_STEPS and step != self._steps:
            return
        pace = (time.monotonic() - self._since) / len(self._losses)
        mean = sum(self._losses) / len(self._losses)
        left = (self._steps - step) * pace
        print(
            f"{self._stage} {step}/{self._steps}: loss {mean:.4f}, {pace:.2f} s a step, {left:.0f} s left", flush=True
        )
        self._losses, self._since = [], time.monotonic()
