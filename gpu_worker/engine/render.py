"""One render, told in order: text, first frame, denoise, decode."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from gpu_worker.engine.attention import FusedAttention, install
from gpu_worker.engine.decode import decode, write_frames
from gpu_worker.engine.denoise import Latents, Steps, denoise
from gpu_worker.engine.geometry import Geometry, geometry_of, positions
from gpu_worker.engine.model import Model
from gpu_worker.engine.predict import Conditions, Predictor
from gpu_worker.engine.resume import Checkpoints, Form, Standing
from gpu_worker.engine.start import draw_noise, encode_first_frame, read_first_frame
from gpu_worker.engine.text import check_prompt, encode_prompt
from video_jobs.errors import ModelUnavailable
from video_jobs.job import RenderPlan, Stage

OnProgress = Callable[[Stage, int, int], None]


class Renderer:
    """Renders plans with one loaded model, one at a time. `on_progress` may raise to stop."""

    def __init__(self, model: Model, accept_unknown_prompts: bool = False) -> None:
        self.model = model
        self.attention = FusedAttention()
        self._accept_unknown_prompts = accept_unknown_prompts
        for transformer in model.transformers.values():
            install(transformer, self.attention)

    @property
    def decoder(self) -> str:
        """How frames are decoded, for the record: tiles change pixels."""
        return "vae, tiled" if self.model.vae.use_tiling else "vae"

    def render(
        self,
        plan: RenderPlan,
        prompt: str,
        image: Path | None,
        seed: int,
        frames: Path,
        on_progress: OnProgress,
        checkpoints: Checkpoints | None = None,
    ) -> dict[str, float]:
        """Write the native frames; the seconds of each stage."""
        seconds: dict[str, float] = {}
        mode = "i2v" if image else "t2v"
        if mode not in self.model.transformers:
            raise ModelUnavailable(f"The loaded weights cannot render {mode}.")
        if not self._accept_unknown_prompts:
            check_prompt(self.model, prompt)
        with _timed(seconds, Stage.TEXT):
            on_progress(Stage.TEXT, 0, 1)
            embeds = encode_prompt(self.model, prompt, plan.max_text_tokens)
        shape = geometry_of(self.model, self.model.transformers[mode], plan.width, plan.height, plan.num_frames)
        with _timed(seconds, Stage.DENOISE):
            latents = self._denoise(plan, mode, embeds, image, shape, seed, on_progress, checkpoints)
        with _timed(seconds, Stage.DECODE):
            pixels = decode(self.model, latents, shape, lambda done, total: on_progress(Stage.DECODE, done, total))
            write_frames(pixels, frames)
        return seconds

    def _denoise(
        self,
        plan: RenderPlan,
        mode: str,
        embeds: torch.Tensor,
        image: Path | None,
        shape: Geometry,
        seed: int,
        on_progress: OnProgress,
        checkpoints: Checkpoints | None,
    ) -> torch.Tensor:
        # A CPU generator draws the same noise whatever the device.
        generator = torch.Generator("cpu").manual_seed(seed)
        device, dtype = self.model.device, embeds.dtype
        form = Form(shape.latent_shape, dtype, device, plan.steps, image is not None, plan.scheduler == "dpm")
        stood = checkpoints.read(form) if checkpoints else None
        if stood is not None:
            start, first = stood.at, stood.first_frame
            generator.set_state(stood.generator)
        else:
            first = None
            if image is not None:
                first = encode_first_frame(self.model, read_first_frame(image, shape), shape, generator, dtype)
            start = Latents(draw_noise(shape, generator, device, dtype))
        steps = Steps(self.model.scheduler(plan.scheduler, mode), plan.steps, generator, device)

        def report(at: Latents) -> None:
            try:
                on_progress(Stage.DENOISE, at.step, len(steps))
            finally:
                # Also when stopped: whoever asked for a checkpoint with the stop gets it.
                if checkpoints:
                    checkpoints.keep(Standing(at, first, generator.get_state()), len(steps))

        on_progress(Stage.DENOISE, start.step, len(steps))
        with self.model.on_device(self.model.transformers[mode]) as transformer:
            given = Conditions(embeds, positions(transformer, shape, device), first, plan.guidance)
            return denoise(Predictor(transformer, given), start, steps, report).sample


@contextmanager
def _timed(seconds: dict[str, float], stage: Stage) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[stage.value] = round(time.monotonic() - started, 3)
