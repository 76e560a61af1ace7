"""`python -P -m gpu_worker.engine`: the child that owns the device. One job at a time, until its pipe closes."""

import argparse
import errno
import logging
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import diffusers
import torch

from gpu_worker.engine.compiled import use_cache_folder
from gpu_worker.engine.convolve import has_onednn
from gpu_worker.engine.crew import Crew
from gpu_worker.engine.load import free_bytes, load_model, pick_device
from gpu_worker.engine.memory import choose_preset
from gpu_worker.engine.model import Model
from gpu_worker.engine.process import die_with_parent
from gpu_worker.engine.protocol import OUT_OF_MEMORY, Checkpointed, Done, Prepared, Progress, Ready, Render
from gpu_worker.engine.render import Clip, OnProgress, Renderer
from gpu_worker.engine.resume import Checkpoints, made_for
from gpu_worker.engine.rewrite import LocalRewriter
from gpu_worker.engine.serve import JobLoop
from gpu_worker.engine.text import alphabet
from gpu_worker.engine.tune import Options
from gpu_worker.engine.warm import warm_up
from video_jobs.catalogue import Catalogue, Checkpoint, load_catalogue
from video_jobs.errors import DeviceFault, EngineFault, ModelUnavailable, OutOfGpuMemory, WorkerDiskFull
from video_jobs.job import Stage
from video_jobs.logs import set_up_logs

logger = logging.getLogger(__name__)


class Engine:
    def __init__(
        self,
        loop: JobLoop[Render],
        renderer: Renderer,
        rewriter: LocalRewriter | None,
        versions: dict[str, str],
        catalogue: Catalogue,
        crew: Crew | None,
    ) -> None:
        self._loop, self._renderer, self._rewriter, self._versions = loop, renderer, rewriter, versions
        self._catalogue, self._crew = catalogue, crew

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
        adapter = self._catalogue.adapter(job.plan.adapter)
        clip = Clip(job.plan, prompt, image, job.seed, adapter.file if adapter else None)
        with self._crew.in_step() if self._crew else nullcontext():
            seconds = self._renderer.render(clip, Path(job.frames_path), on_progress, checkpoints)
        stages = self._renderer.used
        seconds[Stage.DENOISE.value] = round(seconds[Stage.DENOISE.value] + checkpoints.earlier_ms / 1000, 3)
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
    imported_s = process_age_s()
    args = _arguments()
    read_fd, write_fd = args.fds
    die_with_parent(read_fd)
    set_up_logs(args.log_level)
    if args.compile_cache:
        use_cache_folder(args.compile_cache)
    started = time.monotonic()
    device, catalogue = pick_device(args.device), load_catalogue(args.catalogue)
    options = Options(args.attention, is_compiled(args.compile, device), has_onednn(device))
    check_ranks(args.ranks, device)
    args.memory = choose_preset(args.memory, free_bytes(device), args.less_memory).name
    # Before loading: the others load at the same time.
    crew = Crew(args.ranks, follower_arguments(args, device, options)) if args.ranks > 1 else None
    try:
        with crew.in_step() if crew else nullcontext():
            model = load_model(args.model, args.models, device, args.memory, args.text_encoder, catalogue)
            check_checksum(model, catalogue.checkpoints[args.checkpoint])
            rewriter = LocalRewriter(args.rewriter, model.device) if args.rewriter else None
            seconds = {"imports": imported_s, "load": round(time.monotonic() - started, 3)}
            renderer = Renderer(model, args.accept_unknown_prompts, options, crew.join(device) if crew else None)
            seconds |= warm_up(renderer, catalogue, args.checkpoint)
    except ModelUnavailable as error:
        # An operator's mistake, or a hub that is away: the reason is the news, not our stack.
        sys.exit(str(error))
    except torch.OutOfMemoryError:
        logger.exception("out of memory")
        sys.exit(OUT_OF_MEMORY)
    versions = {
        "weights_revision": model.revision,
        "weights_checksum": model.checksum,
        "engine_version": f"torch {torch.__version__}, diffusers {diffusers.__version__}",
        "device": str(model.device),
    }
    logger.info("engine warm", extra={"seconds": seconds})
    loop = JobLoop(read_fd, write_fd, Render, code_of)
    loop.tell(Ready(versions=versions, alphabet=alphabet(model.tokenizer), start_seconds=seconds))
    loop.run(Engine(loop, renderer, rewriter, versions, catalogue, crew).render)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gpu_worker.engine", description=__doc__)
    parser.add_argument("--fds", nargs=2, type=int, required=True, metavar=("READ", "WRITE"))
    parser.add_argument("--model", required=True)
    parser.add_argument("--models", type=Path, required=True, help="folder of models made or fetched here")
    parser.add_argument("--checkpoint", default="tiny", help="the catalogue's name for these weights")
    parser.add_argument("--catalogue", type=Path, help="an operator's catalogue file")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--memory", default="auto", help="auto, or a preset by its name")
    parser.add_argument("--less-memory", action="count", default=0, help="a preset lower than that; may be repeated")
    parser.add_argument("--text-encoder", default="auto", help="auto, device, visit, cpu or int8")
    parser.add_argument("--attention", default="auto", help="auto, or a kernel by its name")
    parser.add_argument("--compile", default="auto", help="auto (on a GPU), on, or off")
    parser.add_argument("--compile-cache", type=Path, help="folder of compiled code")
    parser.add_argument("--ranks", type=int, default=1, help="so many devices render one clip together")
    parser.add_argument("--rewriter", help="folder of a local instruct model")
    parser.add_argument("--accept-unknown-prompts", action="store_true")
    parser.add_argument("--log-level", default="INFO")
    return parser.parse_args()


def follower_arguments(args: argparse.Namespace, device: torch.device, options: Options) -> list[str]:
    said = ["--model", args.model, "--models", str(args.models), "--device", device.type]
    said += ["--memory", args.memory, "--attention", args.attention]
    said += ["--catalogue", str(args.catalogue)] if args.catalogue else []
    said += ["--compile-cache", str(args.compile_cache)] if args.compile_cache else []
    return [*said, "--compiled"] if options.compile else said


def is_compiled(wanted: str, device: torch.device) -> bool:
    return device.type == "cuda" if wanted == "auto" else wanted == "on"


def check_ranks(ranks: int, device: torch.device) -> None:
    if device.type == "cuda" and ranks > (seen := torch.cuda.device_count()):
        sys.exit(f"one job is to have {ranks} GPUs (COGVIDEOX_GPUS_PER_JOB), but this worker sees {seen}")


def check_checksum(model: Model, native: Checkpoint) -> None:
    if native.weights_checksum not in ("", model.checksum):
        raise ModelUnavailable(f"the weights are {model.checksum}, the catalogue names {native.weights_checksum}")


def process_age_s() -> float:
    """Seconds since this process began: what the imports took, mostly."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return round(time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"), 3)


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
