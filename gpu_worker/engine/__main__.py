"""`python -P -m gpu_worker.engine`: the child that owns the device. One job at a time, until its pipe closes."""

import argparse
import queue
import threading
import time
import traceback
from pathlib import Path

import diffusers
import torch

from gpu_worker.engine.load import load_model, pick_device
from gpu_worker.engine.process import die_with_parent
from gpu_worker.engine.protocol import (
    Cancel,
    Done,
    Failed,
    Prepared,
    Progress,
    Ready,
    Render,
    read_messages,
    write_message,
)
from gpu_worker.engine.render import Renderer
from gpu_worker.engine.rewrite import LocalRewriter
from gpu_worker.engine.text import alphabet
from video_jobs.errors import EngineFault, JobCancelled, JobError, OutOfGpuMemory
from video_jobs.job import Stage


class Engine:
    """Reads messages on one thread so that a cancel is heard while the other renders."""

    def __init__(self, read_fd: int, write_fd: int, renderer: Renderer, rewriter: LocalRewriter | None) -> None:
        self._read_fd, self._write_fd = read_fd, write_fd
        self._renderer, self._rewriter = renderer, rewriter
        self._work: queue.Queue[Render | None] = queue.Queue()
        self._cancelled: set[str] = set()

    def run(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        while (job := self._work.get()) is not None:
            write_message(self._write_fd, self._answer(job))
            self._cancelled.discard(job.token)

    def _listen(self) -> None:
        for message in read_messages(self._read_fd):
            if isinstance(message, Cancel):
                self._cancelled.add(message.token)
            elif isinstance(message, Render):
                self._work.put(message)
        self._work.put(None)

    def _answer(self, job: Render) -> Done | Failed:
        try:
            return self._render(job)
        except JobError as error:
            return Failed(job_id=job.job_id, token=job.token, code=error.code, detail=error.detail)
        except torch.OutOfMemoryError as error:
            return Failed(job_id=job.job_id, token=job.token, code=OutOfGpuMemory.code, detail=str(error)[:500])
        except Exception as error:
            traceback.print_exc()
            return Failed(job_id=job.job_id, token=job.token, code=EngineFault.code, detail=repr(error)[:500])

    def _render(self, job: Render) -> Done:
        def on_progress(stage: Stage, done: int, total: int) -> None:
            # The stock pipelines decode after an interrupt: only raising really stops.
            if job.token in self._cancelled:
                raise JobCancelled
            progress = Progress(job_id=job.job_id, token=job.token, stage=stage, done=done, total=total)
            write_message(self._write_fd, progress)

        started = time.monotonic()
        prompt = self._prepare(job)
        prepare_s = round(time.monotonic() - started, 3)
        image = Path(job.image_path) if job.image_path else None
        seconds = self._renderer.render(job.plan, prompt, image, job.seed, Path(job.frames_path), on_progress)
        return Done(
            job_id=job.job_id,
            token=job.token,
            stage_seconds=seconds | ({Stage.PREPARE.value: prepare_s} if self._rewriter else {}),
            stages={"denoise": f"{job.plan.scheduler}-{job.plan.steps}", "decode": "vae"},
        )

    def _prepare(self, job: Render) -> str:
        if self._rewriter is None or job.is_rewritten:
            return job.prompt
        prompt = self._rewriter.rewrite(job.prompt)
        write_message(
            self._write_fd, Prepared(job_id=job.job_id, token=job.token, prompt=prompt, by=self._rewriter.name)
        )
        return prompt


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
    die_with_parent()
    read_fd, write_fd = args.fds
    model = load_model(args.model, args.models, pick_device(args.device), args.offload)
    rewriter = LocalRewriter(args.rewriter, model.device) if args.rewriter else None
    versions = {
        "weights_revision": model.revision,
        "weights_checksum": model.checksum,
        "engine_version": f"torch {torch.__version__}, diffusers {diffusers.__version__}",
        "device": str(model.device),
    }
    write_message(write_fd, Ready(versions=versions, alphabet=alphabet(model.tokenizer)))
    Engine(read_fd, write_fd, Renderer(model, args.accept_unknown_prompts), rewriter).run()


if __name__ == "__main__":
    main()
