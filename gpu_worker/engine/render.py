"""One render, told in order: text, first frame, denoise, decode."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from gpu_worker.engine.decode import decode, write_frames
from gpu_worker.engine.denoise import Latents, Steps, denoise
from gpu_worker.engine.geometry import Geometry, geometry_of, positions
from gpu_worker.engine.memory import is_tiled
from gpu_worker.engine.model import Model
from gpu_worker.engine.predict import Conditions
from gpu_worker.engine.ranks import Ranks
from gpu_worker.engine.resume import Checkpoints, Form, Standing
from gpu_worker.engine.room import Room
from gpu_worker.engine.start import draw_noise, encode_first_frame, read_first_frame
from gpu_worker.engine.text import check_prompt, encode_prompt
from gpu_worker.engine.tune import EXACT, Options, Tuned
from video_jobs.errors import ModelUnavailable
from video_jobs.job import RenderPlan, Stage

OnProgress = Callable[[Stage, int, int], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Clip:
    """One clip to render: all that decides its pixels besides the weights."""

    plan: RenderPlan
    prompt: str
    image: Path | None
    seed: int
    adapter: Path | None = None

    @property
    def mode(self) -> str:
        return "i2v" if self.image else "t2v"


class Renderer:
    """Renders plans with one loaded model, one at a time. `on_progress` may raise to stop."""

    def __init__(
        self,
        model: Model,
        accept_unknown_prompts: bool = False,
        options: Options = EXACT,
        ranks: Ranks | None = None,
    ) -> None:
        self.model = model
        self.tuned = Tuned(model, options, ranks)
        self.used: dict[str, str] = {}
        """What really worked on the last clip, for the record."""

        self._accept_unknown_prompts = accept_unknown_prompts
        self._room = Room(self.tuned)

    def render(
        self, clip: Clip, frames: Path, on_progress: OnProgress, checkpoints: Checkpoints | None = None
    ) -> dict[str, float]:
        """Write the native frames; the seconds of each stage. Out of memory, it tries again with less on the device."""
        if clip.mode not in self.model.transformers:
            raise ModelUnavailable(f"The loaded weights cannot render {clip.mode}.")
        if not self._accept_unknown_prompts:
            check_prompt(self.model, clip.prompt)
        attempt = lambda shape: self._attempt(clip, shape, frames, on_progress, checkpoints)  # noqa: E731
        return self.with_room(clip.plan, clip.mode, attempt)

    def with_room(self, plan: RenderPlan, mode: str, attempt: Callable[[Geometry], T]) -> T:
        """What the attempt gives, in the roomiest preset that holds it."""
        shape = self._shape(plan, mode)
        self._room.make(plan, shape, self.model.transformers[mode])
        while True:
            try:
                return attempt(shape)
            except torch.OutOfMemoryError:
                # Of several ranks the others wait in the middle of a step: they cannot begin again.
                if self.tuned.ranks or not self._room.has_less():
                    raise
            # Outside of the handler, whose traceback holds the tensors that were too many.
            self._room.step_down()

    def fits(self, plan: RenderPlan, mode: str) -> bool:
        """By its estimate, in the preset that needs least."""
        return self._room.fits(plan, self._shape(plan, mode), self.model.transformers[mode])

    def _shape(self, plan: RenderPlan, mode: str) -> Geometry:
        return geometry_of(self.model, self.model.transformers[mode], plan.width, plan.height, plan.num_frames)

    def _attempt(
        self, clip: Clip, shape: Geometry, frames: Path, on_progress: OnProgress, checkpoints: Checkpoints | None
    ) -> dict[str, float]:
        seconds: dict[str, float] = {}
        with _timed(seconds, Stage.TEXT):
            on_progress(Stage.TEXT, 0, 1)
            embeds = encode_prompt(self.model, clip.prompt, clip.plan.max_text_tokens)
        with _timed(seconds, Stage.DENOISE):
            latents = self._denoise(clip, embeds, shape, on_progress, checkpoints)
        with _timed(seconds, Stage.DECODE):
            told = lambda done, total: on_progress(Stage.DECODE, done, total)  # noqa: E731
            write_frames(decode(self.model, latents, shape, told, self.tuned.ranks), frames)
        tiled = is_tiled(self.model.memory, shape.width, shape.height)
        self.used |= {"decode": self.tuned.decoder + (", tiled" if tiled else ""), "memory": self.model.memory.name}
        return seconds

    def _denoise(
        self,
        clip: Clip,
        embeds: torch.Tensor,
        shape: Geometry,
        on_progress: OnProgress,
        checkpoints: Checkpoints | None,
    ) -> torch.Tensor:
        plan, device = clip.plan, self.model.device
        # A CPU generator draws the same noise whatever the device.
        generator = torch.Generator("cpu").manual_seed(clip.seed)
        start, first, begun_with = self._start(clip, shape, generator, embeds.dtype, checkpoints)
        kernel = self.tuned.kernel_for(plan, begun_with).name
        steps = Steps(self.model.scheduler(plan.scheduler, clip.mode), plan.steps, generator, device)

        def report(at: Latents) -> None:
            try:
                on_progress(Stage.DENOISE, at.step, len(steps))
            finally:
                # Also when stopped: whoever asked for a checkpoint with the stop gets it.
                if checkpoints:
                    checkpoints.keep(Standing(at, first, generator.get_state(), kernel), len(steps))

        on_progress(Stage.DENOISE, start.step, len(steps))
        turned = positions(self.model.transformers[clip.mode], shape, device)
        given = Conditions(embeds, turned, first, plan.guidance)
        with self.tuned.predictor(plan, clip.mode, given, clip.adapter, kernel) as predict:
            sample = denoise(predict, start, steps, report).sample
            self.used = {"denoise": f"{plan.scheduler}-{plan.steps}"} | predict.used
        return sample

    def _start(
        self,
        clip: Clip,
        shape: Geometry,
        generator: torch.Generator,
        dtype: torch.dtype,
        checkpoints: Checkpoints | None,
    ) -> tuple[Latents, torch.Tensor | None, str]:
        """Where denoising begins, the first frame, and the kernel: from a checkpoint, or drawn anew."""
        plan, device, has_image = clip.plan, self.model.device, clip.image is not None
        form = Form(shape.latent_shape, dtype, device, plan.steps, has_image, plan.scheduler == "dpm")
        stood = checkpoints.read(form) if checkpoints else None
        if stood is not None:
            generator.set_state(stood.generator)
            return stood.at, stood.first_frame, stood.kernel
        first = None
        if clip.image is not None:
            first = encode_first_frame(self.model, read_first_frame(clip.image, shape), shape, generator, dtype)
        return Latents(draw_noise(shape, generator, device, dtype)), first, ""


@contextmanager
def _timed(seconds: dict[str, float], stage: Stage) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[stage.value] = round(time.monotonic() - started, 3)
