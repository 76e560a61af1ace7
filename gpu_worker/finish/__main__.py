"""`python -P -m gpu_worker.finish`: the child that makes the MP4 and its cover. One job at a time."""

import argparse
import errno
import queue
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gpu_worker.engine.process import die_with_parent
from gpu_worker.engine.protocol import Cancel, Done, Failed, Finish, Progress, Ready, read_messages, write_message
from gpu_worker.finish.cover import with_cover
from gpu_worker.finish.encode import encode
from gpu_worker.finish.frames import Frames
from gpu_worker.finish.interpolate import interpolate
from gpu_worker.finish.scale import scale
from video_jobs.errors import EncodeFailed, JobCancelled, JobError, WorkerDiskFull
from video_jobs.job import Stage

PROGRESS_EVERY_SECONDS = 0.5
STAGES = {"interpolate": "optical flow (DIS)", "scale": "bicubic", "encode": "libx264", "cover": "jpeg"}


class Finisher:
    """Reads messages on one thread so that a cancel is heard while the other encodes."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd, self._write_fd = read_fd, write_fd
        self._work: queue.Queue[Finish | None] = queue.Queue()
        self._cancelled: set[str] = set()

    def run(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        write_message(self._write_fd, Ready())
        while (job := self._work.get()) is not None:
            write_message(self._write_fd, self._answer(job))
            self._cancelled.discard(job.token)

    def _listen(self) -> None:
        for message in read_messages(self._read_fd):
            if isinstance(message, Cancel):
                self._cancelled.add(message.token)
            elif isinstance(message, Finish):
                self._work.put(message)
        self._work.put(None)

    def _answer(self, job: Finish) -> Done | Failed:
        try:
            started = time.monotonic()
            parts = self._finish(job)
            seconds = {Stage.FINISH.value: round(time.monotonic() - started, 3)} | parts
            return Done(job_id=job.job_id, token=job.token, stage_seconds=seconds, stages=STAGES)
        except JobError as error:
            return Failed(job_id=job.job_id, token=job.token, code=error.code, detail=error.detail)
        except Exception as error:
            traceback.print_exc()
            code = WorkerDiskFull.code if getattr(error, "errno", None) == errno.ENOSPC else EncodeFailed.code
            return Failed(job_id=job.job_id, token=job.token, code=code, detail=repr(error)[:500])

    def _finish(self, job: Finish) -> dict[str, float]:
        plan, seconds = job.plan, {"finish.interpolate": 0.0, "finish.scale": 0.0}
        native = np.load(job.frames_path, mmap_mode="r")
        frames = interpolate(native, plan.native_fps, plan.out_fps, plan.out_frames)
        frames = _timed(frames, lambda spent: _add(seconds, "finish.interpolate", spent))
        frames = scale(frames, plan.out_width, plan.out_height)
        frames = _timed(frames, lambda spent: _add(seconds, "finish.scale", spent))
        frames = self._watched(with_cover(frames, Path(job.cover_path)), job)
        count = encode(frames, Path(job.video_path), plan.out_width, plan.out_height, plan.out_fps)
        if count != plan.out_frames:
            raise EncodeFailed(f"{count} frames instead of {plan.out_frames}")
        seconds["finish.scale"] -= seconds["finish.interpolate"]
        return {name: round(value, 3) for name, value in seconds.items()}

    def _watched(self, frames: Frames, job: Finish) -> Frames:
        """Report now and then, and stop within a frame when cancelled."""
        told = 0.0
        for done, frame in enumerate(frames):
            if job.token in self._cancelled:
                raise JobCancelled
            if time.monotonic() - told >= PROGRESS_EVERY_SECONDS:
                told, ids = time.monotonic(), {"job_id": job.job_id, "token": job.token}
                progress = Progress(**ids, stage=Stage.FINISH, done=done, total=job.plan.out_frames)
                write_message(self._write_fd, progress)
            yield frame


def _timed(frames: Frames, spent: Callable[[float], None]) -> Frames:
    """Measure how long each frame took to come."""
    while True:
        started = time.monotonic()
        frame = next(frames, None)
        spent(time.monotonic() - started)
        if frame is None:
            return
        yield frame


def _add(seconds: dict[str, float], name: str, spent: float) -> None:
    seconds[name] += spent


def main() -> None:
    parser = argparse.ArgumentParser(prog="gpu_worker.finish", description=__doc__)
    parser.add_argument("--fds", nargs=2, type=int, required=True, metavar=("READ", "WRITE"))
    args = parser.parse_args()
    die_with_parent()
    Finisher(*args.fds).run()


if __name__ == "__main__":
    main()
