"""A stand-in for the engine and the finisher that renders nothing and lies nowhere: `child.py engine|finisher`.

It speaks the protocol, takes the time it is told, leaves checkpoints and goes on from them, and writes a small valid
MP4 that carries its job, its token and a trace of every step that was taken. Prompts that start with `die`, `segv`,
`orphan` (ends the worker) or `fail:CODE` do what they say; `long` takes many steps.
"""

import argparse
import json
import os
import random
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from gpu_worker.engine.process import die_with_parent
from gpu_worker.engine.protocol import Checkpointed, Done, Finish, Progress, Ready, Render
from gpu_worker.engine.serve import JobLoop
from tests.faults.clip import STEPS, Work, signed, steps_of
from tests.faults.failpoints import FOLDER, Failpoints
from video_jobs.errors import EncodeFailed, EngineFault, WorkerDiskFull, error_for
from video_jobs.job import Stage


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
        started = time.monotonic()
        self._pass_by("started", job)
        if isinstance(job, Render):
            misbehave(job.prompt)
            self._render(job)
        else:
            self._finish(job)
        self._pass_by("rendered" if self._is_engine else "encoded", job)
        stage = (Stage.DENOISE if self._is_engine else Stage.FINISH).value
        seconds, stages = {stage: time.monotonic() - started}, {stage: "stand-in"}
        return Done(job_id=job.job_id, token=job.token, stage_seconds=seconds, stages=stages)

    def _render(self, job: Render) -> None:
        work, steps = self._start(job), steps_of(job.prompt)
        saved = time.monotonic()
        while work.step < steps:
            self._spend(job, work.step + 1, steps, Stage.DENOISE)
            work = work.next()
            is_asked = self._loop.is_checkpoint_asked(job)
            if is_asked or time.monotonic() - saved > job.checkpoint_every_s:
                self._save(job, work)
                saved = time.monotonic()
            self._loop.raise_if_cancelled(job)
        Path(job.frames_path).write_text(json.dumps({"token": job.token} | asdict(work)))

    def _start(self, job: Render) -> Work:
        """From the checkpoint if there is one; one of another job is noted, for it must never come here."""
        if job.checkpoint_path is None:
            return Work(job.job_id)
        kept = Work(**json.loads(Path(job.checkpoint_path).read_text()))
        self._points.note("resumed", job_id=job.job_id, token=job.token, step=kept.step, of=kept.job_id)
        return kept

    def _save(self, job: Render, work: Work) -> None:
        assert job.checkpoint_folder is not None
        path = Path(job.checkpoint_folder) / f"{work.step}.checkpoint"
        path.write_text(json.dumps(asdict(work)))
        self._points.note("saved", job_id=job.job_id, token=job.token, step=work.step)
        self._loop.tell(Checkpointed(job_id=job.job_id, token=job.token, path=str(path), step=work.step))
        self._pass_by("checkpointed", job)

    def _finish(self, job: Finish) -> None:
        frames = json.loads(Path(job.frames_path).read_text())
        if (frames["job_id"], frames["token"]) != (job.job_id, job.token):
            raise EncodeFailed("these frames are another attempt's")
        for step in range(1, STEPS + 1):
            self._spend(job, step, STEPS, Stage.FINISH)
            self._loop.raise_if_cancelled(job)
        Path(job.video_path).write_bytes(signed(self._clip, job.job_id, job.token, frames["trace"]))
        Path(job.cover_path).write_bytes(b"cover")

    def _spend(self, job: Render | Finish, step: int, steps: int, stage: Stage) -> None:
        time.sleep(self._job_s / STEPS * random.uniform(0.5, 1.5))
        self._loop.tell(Progress(job_id=job.job_id, token=job.token, stage=stage, done=step, total=steps))
        if step == steps // 2:
            self._pass_by("mid_render" if self._is_engine else "mid_encode", job)

    def _pass_by(self, place: str, job: Render | Finish) -> None:
        prefix = "e." if self._is_engine else "f."
        time.sleep(self._points.pass_by(prefix + place, job.job_id, job.token))


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
