"""`python -P -m gpu_worker.finish`: the child that makes the MP4 and its cover. One job at a time."""

import argparse
import errno
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gpu_worker.engine.process import die_with_parent
from gpu_worker.engine.protocol import Done, Finish, Progress, Ready
from gpu_worker.engine.serve import JobLoop
from gpu_worker.finish.cover import with_cover
from gpu_worker.finish.encode import encode
from gpu_worker.finish.frames import Frames
from gpu_worker.finish.interpolate import interpolate
from gpu_worker.finish.samples import with_samples
from gpu_worker.finish.scale import scale
from video_jobs.errors import EncodeFailed, WorkerDiskFull
from video_jobs.job import Stage
from video_jobs.logs import set_up_logs

PROGRESS_EVERY_SECONDS = 0.5
STAGES = {"interpolate": "optical flow (DIS)", "scale": "bicubic", "encode": "libx264", "cover": "jpeg"}


class Finisher:
    def __init__(self, loop: JobLoop[Finish]) -> None:
        self._loop = loop

    def finish(self, job: Finish) -> Done:
        started = time.monotonic()
        parts = self._finish(job)
        seconds = {Stage.FINISH.value: round(time.monotonic() - started, 3)} | parts
        return Done(job_id=job.job_id, token=job.token, stage_seconds=seconds, stages=STAGES)

    def _finish(self, job: Finish) -> dict[str, float]:
        plan, seconds = job.plan, {"finish.interpolate": 0.0, "finish.scale": 0.0}
        native = np.load(job.frames_path, mmap_mode="r")
        frames = interpolate(native, plan.native_fps, plan.out_fps, plan.out_frames)
        frames = _timed(frames, lambda spent: _add(seconds, "finish.interpolate", spent))
        frames = scale(frames, plan.out_width, plan.out_height)
        frames = _timed(frames, lambda spent: _add(seconds, "finish.scale", spent))
        frames = with_samples(frames, Path(job.cover_path).parent, job.samples, plan.out_frames)
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
            self._loop.raise_if_cancelled(job)
            if time.monotonic() - told >= PROGRESS_EVERY_SECONDS:
                told, ids = time.monotonic(), {"job_id": job.job_id, "token": job.token}
                progress = Progress(**ids, stage=Stage.FINISH, done=done, total=job.plan.out_frames)
                self._loop.tell(progress)
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
    parser.add_argument("--log-level", default="INFO")
    args = parser.parse_args()
    read_fd, write_fd = args.fds
    die_with_parent(read_fd)
    set_up_logs(args.log_level)
    loop = JobLoop(read_fd, write_fd, Finish, code_of)
    loop.tell(Ready())
    loop.run(Finisher(loop).finish)


def code_of(error: Exception) -> str:
    return WorkerDiskFull.code if getattr(error, "errno", None) == errno.ENOSPC else EncodeFailed.code


if __name__ == "__main__":
    main()
