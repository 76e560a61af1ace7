"""Our own denoise loop: bit-identical to the stock pipelines, with a hook at every step."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import CogVideoXDPMScheduler

from video_jobs.catalogue import STEP_COUNTS

StepHook = Callable[["Latents"], None]


@dataclass(frozen=True)
class Latents:
    """Where a clip stands after `step` steps."""

    sample: torch.Tensor
    step: int = 0
    previous_prediction: torch.Tensor | None = None


@dataclass(frozen=True)
class Conditions:
    """What stays the same through all steps."""

    embeds: torch.Tensor
    positions: tuple[torch.Tensor, torch.Tensor] | None
    image: torch.Tensor | None
    guidance: float


class Steps:
    """The schedule of one clip: it advances latents by one prediction."""

    def __init__(self, scheduler: Any, count: int, generator: torch.Generator, device: torch.device) -> None:
        if count not in STEP_COUNTS:
            raise ValueError(f"{count} steps do not land on alpha 1")
        scheduler.set_timesteps(count, device=device)
        self._scheduler = scheduler
        self._generator = generator
        self.timesteps: torch.Tensor = scheduler.timesteps

    def __len__(self) -> int:
        return len(self.timesteps)

    def advance(self, at: Latents, prediction: torch.Tensor) -> Latents:
        time, sample = self.timesteps[at.step], at.sample
        if not isinstance(self._scheduler, CogVideoXDPMScheduler):
            after = self._scheduler.step(
                prediction, time, sample, eta=0.0, generator=self._generator, return_dict=False
            )[0]
            return replace(at, sample=after.to(sample.dtype), step=at.step + 1)
        after, predicted = self._scheduler.step(
            prediction,
            at.previous_prediction,
            time,
            self.timesteps[at.step - 1] if at.step else None,
            sample,
            eta=0.0,
            generator=self._generator,
            return_dict=False,
        )
        return Latents(after.to(sample.dtype), at.step + 1, predicted)


@torch.no_grad()
def denoise(transformer: Any, start: Latents, steps: Steps, conditions: Conditions, on_step: StepHook) -> Latents:
    """Run the remaining steps; `on_step` reports, or raises JobCancelled."""
    at = start
    while at.step < len(steps):
        prediction = _guided(transformer, at.sample, steps.timesteps[at.step], conditions)
        at = steps.advance(at, prediction)
        on_step(at)
    return at


def _guided(transformer: Any, sample: torch.Tensor, time: torch.Tensor, given: Conditions) -> torch.Tensor:
    """One forward pass for both branches, combined in float32."""
    doubled = torch.cat([sample] * 2)
    if given.image is not None:
        doubled = torch.cat([doubled, torch.cat([given.image] * 2)], dim=2)
    ofs = None if transformer.config.ofs_embed_dim is None else sample.new_full((1,), fill_value=2.0)
    prediction = transformer(
        hidden_states=doubled,
        encoder_hidden_states=given.embeds,
        timestep=time.expand(doubled.shape[0]),
        ofs=ofs,
        image_rotary_emb=given.positions,
        return_dict=False,
    )[0].float()
    without, with_text = prediction.chunk(2)
    guided: torch.Tensor = without + given.guidance * (with_text - without)
    return guided
