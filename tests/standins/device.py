"""A stand-in device, for tests alone: an engine that sleeps where a device would compute, and writes down when."""

import argparse
import time
from pathlib import Path

from gpu_worker.engine.process import die_with_parent
from gpu_worker.engine.protocol import Done, Progress, Ready, Render
from gpu_worker.engine.serve import JobLoop
from video_jobs.errors import EngineFault
from video_jobs.job import Stage

STEPS, DENOISING = 20, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--diary", type=Path, required=True)
    parser.add_argument("--fds", nargs=2, type=int, required=True)
    args = parser.parse_args()
    die_with_parent(args.fds[0])
    loop = JobLoop(*args.fds, Render, lambda _: EngineFault.code)

    def render(job: Render) -> Done:
        began = time.monotonic()
        for step in range(STEPS):
            time.sleep(args.seconds / STEPS)
            stage = Stage.DENOISE if step + 1 < DENOISING else Stage.DECODE
            loop.tell(Progress(job_id=job.job_id, token=job.token, stage=stage, done=step + 1, total=STEPS))
        with args.diary.open("a") as diary:
            diary.write(f"{began} {time.monotonic()}\n")
        Path(job.frames_path).write_bytes(b"frames")
        return Done(job_id=job.job_id, token=job.token, stage_seconds={Stage.DENOISE.value: args.seconds})

    loop.tell(Ready(alphabet="*"))
    loop.run(render)


if __name__ == "__main__":
    main()
