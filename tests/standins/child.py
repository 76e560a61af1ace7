"""A stand-in for the engine and the finisher, for tests alone: it speaks the protocol and renders nothing.

`child.py engine|finisher --step-s SECONDS --fds R W`. A prompt of `hang`, `die` or `fail:CODE` does what it says.
"""

import argparse
import os
import queue
import sys
import threading
import time
from pathlib import Path

from gpu_worker.engine.process import die_with_parent
from gpu_worker.engine.protocol import (
    Cancel,
    Done,
    Failed,
    Finish,
    Progress,
    Ready,
    Render,
    read_messages,
    write_message,
)
from video_jobs.job import Stage

STEPS = 10


class StandIn:
    def __init__(self, role: str, step_s: float, read_fd: int, write_fd: int) -> None:
        self.role, self.step_s, self.read_fd, self.write_fd = role, step_s, read_fd, write_fd
        self.work: queue.Queue[Render | Finish | None] = queue.Queue()
        self.cancelled: set[str] = set()

    def run(self) -> None:
        threading.Thread(target=self.listen, daemon=True).start()
        versions = {"weights_revision": "stand-in", "weights_checksum": "0", "engine_version": "stand-in"}
        write_message(self.write_fd, Ready(versions=versions, alphabet="*" if self.role == "engine" else ""))
        while (job := self.work.get()) is not None:
            write_message(self.write_fd, self.answer(job))

    def listen(self) -> None:
        for message in read_messages(self.read_fd):
            if isinstance(message, Cancel):
                self.cancelled.add(message.token)
            elif isinstance(message, Render | Finish):
                self.work.put(message)
        os._exit(0)

    def answer(self, job: Render | Finish) -> Done | Failed:
        prompt = job.prompt if isinstance(job, Render) else ""
        if prompt == "hang":
            time.sleep(3600)
        if prompt == "die":
            os._exit(3)
        if prompt.startswith("fail:"):
            return Failed(job_id=job.job_id, token=job.token, code=prompt.removeprefix("fail:"))
        stage = Stage.DENOISE if isinstance(job, Render) else Stage.FINISH
        for step in range(1, STEPS + 1):
            time.sleep(self.step_s)
            if job.token in self.cancelled:
                return Failed(job_id=job.job_id, token=job.token, code="cancelled")
            write_message(
                self.write_fd, Progress(job_id=job.job_id, token=job.token, stage=stage, done=step, total=STEPS)
            )
        self.write_files(job)
        return Done(
            job_id=job.job_id,
            token=job.token,
            stage_seconds={stage.value: STEPS * self.step_s},
            stages={stage.value: "stand-in"},
        )

    def write_files(self, job: Render | Finish) -> None:
        if isinstance(job, Render):
            Path(job.frames_path).write_bytes(b"frames")
            return
        Path(job.video_path).write_bytes(f"{job.job_id} {job.token}".encode())
        Path(job.cover_path).write_bytes(b"cover")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["engine", "finisher"])
    parser.add_argument("--step-s", type=float, default=0.01)
    parser.add_argument("--fds", nargs=2, type=int, required=True)
    args = parser.parse_args()
    die_with_parent(args.fds[0])
    StandIn(args.role, args.step_s, *args.fds).run()


if __name__ == "__main__":
    sys.exit(main())
