"""`python -P -m gpu_worker.engine`: the child that owns the device. One job at a time, until its pipe closes."""

import argparse
import errno
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import diffusers
import torch

from gpu_worker.engine.lean import lean
from gpu_worker.engine.load import load_model, pick_device
from gpu_worker.engine.process import die_with_parent
from gpu_worker.engine.protocol import Checkpointed, Done, Prepared, Progress, Ready, Render
from gpu_worker.engine.render import OnProgress, Renderer
from gpu_worker.engine.resume import Checkpoints, made_for
from gpu_worker.engine.rewrite import LocalRewriter
from gpu_worker.engine.serve import JobLoop
from gpu_worker.engine.text import alphabet
from video_jobs.errors import DeviceFault, EngineFault, ModelUnavailable, OutOfGpuMemory, WorkerDiskFull
from video_jobs.job import Stage
from video_jobs.logs import set_up_logs


class Engine:
    def __init__(
        self, loop: JobLoop[Render], renderer: Renderer, rewriter: LocalRewriter | None, versions: dict[str, str]
    ) -> None:
        self._loop, self._renderer, self._rewriter, self._versions = loop, renderer, rewriter, versions

    def render(self, job: Render) -> Done:
        def on_progress(stage: Stage, done: int, total: int) -> None:
            # The stock pipelines decode after an interrupt: only raising really stops.
            self._loop.raise_if_cancelled(job)
            self._loop.tell(Progress(job_id=job.job_id, token=job.token, stage=stage, done=done, total=total))

        reset_peak_memory(self._renderer.model.device)
        started = time.monotonic()
        prompt = self._prepare(job, on_progress)
        prepare_s = round(time.monotonic() - started, 3)
        image = Path(job.image_path) if job.image_path else None
        checkpoints = self._checkpoints(job, prompt)
        with lean(self._renderer.model) if job.is_lean else nullcontext():
            seconds = self._renderer.render(
                job.plan, prompt, image, job.seed, Path(job.frames_path), on_progress, checkpoints
            )
            stages = {"denoise": f"{job.plan.scheduler}-{job.plan.steps}", "decode": self._renderer.decoder}
        seconds[Stage.DENOISE] = round(seconds[Stage.DENOISE] + checkpoints.earlier_ms / 1000, 3)
        return Done(
            job_id=job.job_id,
            token=job.token,
            stage_seconds=seconds | ({Stage.PREPARE.value: prepare_s} if self._rewriter else {}),
            stages=stages | ({"resumed": f"step {checkpoints.resumed_at}"} if checkpoints.resumed_at else {}),
            peak_memory_bytes=peak_memory(self._renderer.model.device),
        )

    def _prepare(self, job: Render, on_progress: OnProgress) -> str:
        # An image alone is a whole request: nothing is made up for it.
        if self._rewriter is None or job.is_rewritten or not job.prompt:
            return job.prompt
        prompt = self._rewriter.rewrite(job.prompt, lambda done, total: on_progress(Stage.PREPARE, done, total))
        self._loop.tell(Prepared(job_id=job.job_id, token=job.token, prompt=prompt, by=self._rewriter.name))
        return prompt

    def _checkpoints(self, job: Render, prompt: str) -> Checkpoints:
        def tell(path: Path, step: int) -> None:
            self._loop.tell(Checkpointed(job_id=job.job_id, token=job.token, path=str(path), step=step))

        words = made_for(job, prompt, self._versions)
        return Checkpoints(job, words, lambda: self._loop.is_checkpoint_asked(job), tell)


def main() -> None:
    parser = argparse.ArgumentParser(prog="gpu_worker.engine", description=__doc__)
    parser.add_argument("--fds", nargs=2, type=int, required=True, metavar=("READ", "WRITE"))
    parser.add_argument("--model", required=True)
    parser.add_argument("--models", type=Path, required=True, help="folder of models made or fetched here")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--offload", action="store_true", help="for small cards: parts visit the device in turn")
    parser.add_argument("--rewriter", help="folder of a local instruct model")
    parser.add_argument("--accept-unknown-prompts", action="store_true")
    args = parser.parse_args()
    read_fd, write_fd = args.fds
    die_with_parent(read_fd)
    set_up_logs("WARNING")
    try:
        model = load_model(args.model, args.models, pick_device(args.device), args.offload)
    except ModelUnavailable as error:
        # An operator's mistake, or a hub that is away: the reason is the news, not our stack.
        sys.exit(str(error))
    rewriter = LocalRewriter(args.rewriter, model.device) if args.rewriter else None
    versions = {
        "weights_revision": model.revision,
        "weights_checksum": model.checksum,
        "engine_version": f"torch {torch.__version__}, diffusers {diffusers.__version__}",
        "device": str(model.device),
    }
    loop = JobLoop(read_fd, write_fd, Render, code_of)
    loop.tell(Ready(versions=versions, alphabet=alphabet(model.tokenizer)))
    loop.run(Engine(loop, Renderer(model, args.accept_unknown_prompts), rewriter, versions).render)


def reset_peak_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def code_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return WorkerDiskFull.code
    if isinstance(error, torch.OutOfMemoryError):
        return OutOfGpuMemory.code
    return EngineFault.code if device_answers() else DeviceFault.code


def device_answers() -> bool:
    """False once a kernel has failed: then nothing runs on the device again in this process."""
    try:
        if torch.cuda.is_available():
            torch.ones(1, device="cuda").sum().item()
    except RuntimeError:
        return False
    return True


if __name__ == "__main__":
    main()
