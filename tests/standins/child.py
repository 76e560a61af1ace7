"""A stand-in for the engine and the finisher, for tests alone: it speaks the protocol and renders nothing.

`child.py engine|finisher --step-s SECONDS --fds R W`. A prompt of `hang`, `die`, `mumble` or `fail:CODE` does what it
says; `oom` is out of memory unless it was started with less, and `faint` is to die unless it goes on from a checkpoint;
`die@5` and so on do it at that step. Its checkpoints are the number of the step they were made at.
"""

import argparse
import errno
import os
import sys
import time
from pathlib import Path

from gpu_worker.engine.process import die_with_parent
from gpu_worker.engine.protocol import OUT_OF_MEMORY, Checkpointed, Done, Finish, Progress, Ready, Render
from gpu_worker.engine.serve import JobLoop
from video_jobs.errors import EngineFault, JobCancelled, WorkerDiskFull, error_for
from video_jobs.job import Stage

STEPS = 10


class StandIn:
    def __init__(self, role: str, step_s: float, less_memory: int, read_fd: int, write_fd: int) -> None:
        self.role, self.step_s, self.less_memory = role, step_s, less_memory
        kind: type[Render] | type[Finish] = Render if role == "engine" else Finish
        self.loop = JobLoop(read_fd, write_fd, kind, code_of)

    def run(self) -> None:
        versions = {"weights_revision": "stand-in", "weights_checksum": "0", "engine_version": "stand-in"}
        self.loop.tell(Ready(versions=versions, alphabet="*") if self.role == "engine" else Ready())
        self.loop.run(self.perform)

    def perform(self, job: Render | Finish) -> Done:
        stage = Stage.DENOISE if isinstance(job, Render) else Stage.FINISH
        first = self.resume(job) if isinstance(job, Render) else 0
        kept = time.monotonic()
        for step in range(first + 1, STEPS + 1):
            self.misbehave(job, step)
            time.sleep(self.step_s)
            try:
                self.loop.raise_if_cancelled(job)
            except JobCancelled:
                self.keep(job, step)
                raise
            self.tell(job, stage, step)
            if isinstance(job, Render) and time.monotonic() - kept >= job.checkpoint_every_s:
                kept = time.monotonic()
                self.checkpoint(job, step)
        self.write_files(job)
        resumed = {"resumed": f"step {first}"} if first else {}
        seconds, stages = {stage.value: STEPS * self.step_s}, {stage.value: "stand-in"}
        return Done(job_id=job.job_id, token=job.token, stage_seconds=seconds, stages=stages | resumed)

    def misbehave(self, job: Render | Finish, step: int) -> None:
        deed, _, at = job.prompt.partition("@") if isinstance(job, Render) else ("", "", "")
        if step != (int(at) if at.isdecimal() else 1):
            return
        if deed == "oom" and not self.less_memory:
            os._exit(OUT_OF_MEMORY)
        if deed == "hang":
            time.sleep(3600)
        if deed == "die" or (deed == "faint" and isinstance(job, Render) and not job.checkpoint_path):
            os._exit(3)
        while deed == "mumble":
            self.tell(job, Stage.DENOISE, 0)
            time.sleep(0.01)
        if deed.startswith("fail:"):
            raise error_for(deed.removeprefix("fail:"))

    def tell(self, job: Render | Finish, stage: Stage, step: int) -> None:
        self.loop.tell(Progress(job_id=job.job_id, token=job.token, stage=stage, done=step, total=STEPS))

    def keep(self, job: Render | Finish, step: int) -> None:
        if isinstance(job, Render) and self.loop.is_checkpoint_asked(job):
            self.checkpoint(job, step)

    def checkpoint(self, job: Render, step: int) -> None:
        path = Path(job.checkpoint_folder or "") / f"checkpoint-{step}.safetensors"
        path.write_text(str(step))
        self.loop.tell(Checkpointed(job_id=job.job_id, token=job.token, path=str(path), step=step))

    def resume(self, job: Render) -> int:
        return int(Path(job.checkpoint_path).read_text()) if job.checkpoint_path else 0

    def write_files(self, job: Render | Finish) -> None:
        if isinstance(job, Render):
            Path(job.frames_path).write_bytes(b"frames")
            return
        Path(job.video_path).write_bytes(f"{job.job_id} {job.token}".encode())
        Path(job.cover_path).write_bytes(b"cover")
        for number in range(job.samples):
            (Path(job.cover_path).parent / f"sample-{number:05d}.jpg").write_bytes(b"frame %d" % number)


def code_of(error: Exception) -> str:
    return WorkerDiskFull.code if isinstance(error, OSError) and error.errno == errno.ENOSPC else EngineFault.code


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["engine", "finisher"])
    parser.add_argument("--step-s", type=float, default=0.01)
    parser.add_argument("--fds", nargs=2, type=int, required=True)
    parser.add_argument("--less-memory", action="count", default=0)
    args = parser.parse_args()
    die_with_parent(args.fds[0])
    StandIn(args.role, args.step_s, args.less_memory, *args.fds).run()


if __name__ == "__main__":
    sys.exit(main())
