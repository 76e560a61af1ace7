"""A stand-in for the engine and the finisher that renders nothing and lies nowhere: `child.py engine|finisher`.

It speaks the protocol, takes the time it is told, and writes a small valid MP4 that carries its job and token. Prompts
that start with `die`, `segv`, `orphan` (ends the worker) or `fail:CODE` do what they say.
"""

import argparse
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from gpu_worker.engine.process import die_with_parent
from gpu_worker.engine.protocol import Done, Finish, Progress, Ready, Render
from gpu_worker.engine.serve import JobLoop
from tests.faults.clip import signed
from tests.faults.failpoints import FOLDER, Failpoints
from video_jobs.errors import EncodeFailed, EngineFault, WorkerDiskFull, error_for
from video_jobs.job import Stage

STEPS = 5


class StandIn:
    def __init__(self, role: str, job_s: float, read_fd: int, write_fd: int) -> None:
        self._is_engine, self._job_s = role == "engine", job_s
        self._points = Failpoints.of_this_process(role)
        self._clip = (Path(os.environ[FOLDER]) / "clip.mp4").read_bytes()
        kind: type[Render] | type[Finish] = Render if self._is_engine else Finish
        self._loop = JobLoop(read_fd, write_fd, kind, code_of)

    def run(self) -> None:
        versions = {"weights_revision": "stand-in", "weights_checksum": "0", "engine_version": "stand-in"}
        self._loop.tell(Ready(versions=versions, alphabet="*") if self._is_engine else Ready())
        self._loop.run(self.perform)

    def perform(self, job: Render | Finish) -> Done:
        if isinstance(job, Render):
            misbehave(job.prompt)
        stage = Stage.DENOISE if self._is_engine else Stage.FINISH
        self._pass_by("started", job)
        pause_s = self._job_s / STEPS * random.Random(job.token).uniform(0.5, 1.5)
        for step in range(1, STEPS + 1):
            time.sleep(pause_s)
            self._loop.raise_if_cancelled(job)
            self._loop.tell(Progress(job_id=job.job_id, token=job.token, stage=stage, done=step, total=STEPS))
            if step == STEPS // 2:
                self._pass_by("mid_render" if self._is_engine else "mid_encode", job)
        self._write(job)
        self._pass_by("rendered" if self._is_engine else "encoded", job)
        seconds, stages = {stage.value: pause_s * STEPS}, {stage.value: "stand-in"}
        return Done(job_id=job.job_id, token=job.token, stage_seconds=seconds, stages=stages)

    def _pass_by(self, place: str, job: Render | Finish) -> None:
        prefix = "e." if self._is_engine else "f."
        time.sleep(self._points.pass_by(prefix + place, job.job_id, job.token))

    def _write(self, job: Render | Finish) -> None:
        if isinstance(job, Render):
            Path(job.frames_path).write_bytes(f"{job.job_id} {job.token}".encode())
            return
        # The frames must be those of this very attempt.
        if Path(job.frames_path).read_text() != f"{job.job_id} {job.token}":
            raise EncodeFailed("these frames are another attempt's")
        Path(job.video_path).write_bytes(signed(self._clip, job.job_id, job.token))
        Path(job.cover_path).write_bytes(b"cover")


def misbehave(prompt: str) -> None:
    if prompt.startswith("die"):
        os._exit(3)
    if prompt.startswith("segv"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if prompt.startswith("orphan"):
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(5)
    if prompt.startswith("fail:"):
        raise error_for(prompt.removeprefix("fail:").split()[0])


def code_of(error: Exception) -> str:
    return WorkerDiskFull.code if isinstance(error, OSError) and error.errno == 28 else EngineFault.code


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["engine", "finisher"])
    parser.add_argument("--job-s", type=float, required=True)
    parser.add_argument("--fds", nargs=2, type=int, required=True)
    args = parser.parse_args()
    die_with_parent(args.fds[0])
    StandIn(args.role, args.job_s, *args.fds).run()


if __name__ == "__main__":
    main()
