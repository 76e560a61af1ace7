"""One way to denoise a clip, timed step by step, with the blocks that really ran counted."""

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import CogVideoXPipeline

from gpu_worker.engine.bench.shapes import Shape
from gpu_worker.engine.denoise import Latents, Steps, denoise
from gpu_worker.engine.geometry import Geometry, geometry_of, positions
from gpu_worker.engine.memory import is_tiled
from gpu_worker.engine.model import Model
from gpu_worker.engine.predict import Conditions
from gpu_worker.engine.tune import Options, Tuned
from video_jobs.job import RenderPlan

SEED = 3


class Enough(Exception):
    """So many steps were to be measured."""


@dataclass
class Measured:
    variant: str
    steps: int
    """Of the whole schedule."""

    seconds: list[float] = field(default_factory=list)
    """Of each step that was taken."""

    work_s: float = 0.0
    """Processor seconds of all steps: on a shared CPU the wall clock tells what others did."""

    blocks: int = 0
    peak_bytes: int = 0
    decode_s: float = 0.0
    used: dict[str, str] = field(default_factory=dict)
    latents: torch.Tensor | None = None
    frames: torch.Tensor | None = None

    @property
    def step_s(self) -> float:
        """The mean without the first step, which pays for what is prepared on the way."""
        rest = self.seconds[1:] or self.seconds
        return sum(rest) / len(rest)

    @property
    def is_extrapolated(self) -> bool:
        return len(self.seconds) < self.steps

    @property
    def denoise_s(self) -> float:
        return self.step_s * self.steps if self.is_extrapolated else sum(self.seconds)

    def effort(self, device: torch.device) -> float:
        """Of denoising; on a CPU in processor time."""
        return self.work_s if device.type == "cpu" and not self.is_extrapolated else self.denoise_s

    @property
    def video_s(self) -> float:
        return self.denoise_s + self.decode_s


@dataclass(frozen=True)
class Task:
    """What every variant does."""

    shape: Shape
    plan: RenderPlan
    embeds: torch.Tensor
    measured_steps: int


def stock(model: Model, task: Task) -> Measured:
    """diffusers' own pipeline, as its examples call it."""
    plan, found = task.plan, Measured("stock", task.plan.steps)
    pipeline: Any = CogVideoXPipeline(
        None, None, model.vae, model.transformers["t2v"], model.scheduler(plan.scheduler, "t2v")
    )
    pipeline.set_progress_bar_config(disable=True)

    def note(_pipe: Any, step: int, _time: Any, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        clock(step + 1, given["latents"])
        return given

    with _counting(model, found), _timing(found, task, model.device) as clock:
        pipeline(
            prompt_embeds=task.embeds[1:],
            negative_prompt_embeds=task.embeds[:1],
            width=plan.width,
            height=plan.height,
            num_frames=plan.num_frames,
            num_inference_steps=plan.steps,
            guidance_scale=plan.guidance,
            generator=torch.Generator("cpu").manual_seed(SEED),
            output_type="latent",
            callback_on_step_end=note,
        )
    return found


def ours(model: Model, task: Task, name: str, tuned: Tuned) -> Measured:
    plan, found = task.plan, Measured(name, task.plan.steps)
    transformer = model.transformers["t2v"]
    shape = _geometry(model, plan)
    generator = torch.Generator("cpu").manual_seed(SEED)
    noise = torch.randn(shape.latent_shape, generator=generator, dtype=task.embeds.dtype).to(model.device)
    steps = Steps(model.scheduler(plan.scheduler, "t2v"), plan.steps, generator, model.device)
    given = Conditions(task.embeds, positions(transformer, shape, model.device), None, plan.guidance)
    with tuned.predictor(plan, "t2v", given, None) as predict:
        with _counting(model, found, tuned), _timing(found, task, model.device) as clock:
            denoise(predict, Latents(noise), steps, lambda at: clock(at.step, at.sample))
        found.used = predict.used
    return found


def make_tuned(model: Model, name: str, kernel: str) -> Tuned:
    """`+compile` in the name compiles; precision and caches come with the plan."""
    tuned = Tuned(model, Options(kernel, "compile" in name.split("+")))
    tuned.choose_kernels()
    return tuned


@torch.no_grad()
def decode_latents(model: Model, found: Measured, plan: RenderPlan) -> None:
    if found.latents is None:
        return
    shape = _geometry(model, plan)
    kept = found.latents[:, shape.padding :].permute(0, 2, 1, 3, 4)
    started = _now(model.device)
    with model.at_work(model.vae, model.memory.vae) as vae:
        vae.use_tiling = is_tiled(model.memory, plan.width, plan.height)
        video = vae.decode(1 / vae.config.scaling_factor * kept).sample
        vae.use_tiling = False
    found.decode_s = _now(model.device) - started
    found.frames = (video[0].permute(1, 0, 2, 3) / 2 + 0.5).clamp(0, 1).cpu()
    found.peak_bytes = max(found.peak_bytes, peak_bytes(model.device))


def peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _geometry(model: Model, plan: RenderPlan) -> Geometry:
    return geometry_of(model, model.transformers["t2v"], plan.width, plan.height, plan.num_frames)


@contextmanager
def _timing(found: Measured, task: Task, device: torch.device) -> Iterator[Callable[[int, torch.Tensor], None]]:
    """Gives what is to be called after each step; it ends the run after enough of them."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before, worked = [_now(device)], time.process_time()

    def clock(step: int, latents: torch.Tensor) -> None:
        now = _now(device)
        found.seconds.append(now - before[0])
        before[0], found.latents = now, latents
        if step >= task.measured_steps:
            raise Enough

    with suppress(Enough):
        yield clock
    found.work_s = time.process_time() - worked
    found.peak_bytes = peak_bytes(device)


@contextmanager
def _counting(model: Model, found: Measured, tuned: Tuned | None = None) -> Iterator[None]:
    """Counts attentions, whoever runs them: one for each block that worked."""

    def note(*_: Any) -> None:
        found.blocks += 1

    transformers = [model.transformers["t2v"], *(tuned.variants if tuned else [])]
    hooks = [block.attn1.register_forward_pre_hook(note) for part in transformers for block in part.transformer_blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
