"""Peak memory and seconds of the finisher child on the longest clips: `finish_memory.py [--write]`."""

import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from gpu_worker.engine.protocol import Done, Finish, read_messages, write_message
from video_jobs.catalogue import load_catalogue
from video_jobs.job import VideoSpec

CLIPS = [(1920, 1080, 30, 5), (1920, 1080, 60, 10), (3840, 2160, 60, 5), (3840, 2160, 60, 10)]


def measure(width: int, height: int, fps: int, duration_s: int, folder: Path) -> tuple[float, float]:
    """Peak resident gigabytes and seconds of one child that makes one clip."""
    spec = VideoSpec(model="cogvideox-2", width=width, height=height, fps=fps, duration_s=duration_s, seed=1)
    plan = load_catalogue().plan(spec, "tiny")
    frames = np.random.default_rng(1).integers(0, 255, (plan.num_frames, plan.height, plan.width, 3), dtype=np.uint8)
    np.save(folder / "frames.npy", frames)
    child_reads, write_fd = os.pipe()
    read_fd, child_writes = os.pipe()
    command = [sys.executable, "-P", "-m", "gpu_worker.finish", "--fds", str(child_reads), str(child_writes)]
    child = subprocess.Popen(command, pass_fds=(child_reads, child_writes))
    os.close(child_reads)
    os.close(child_writes)
    peaks: list[float] = []
    threading.Thread(target=watch, args=(child.pid, peaks), daemon=True).start()
    paths = {name: str(folder / name) for name in ("video", "cover")}
    started = time.monotonic()
    job = Finish(
        job_id="1",
        token="1",
        plan=plan,
        frames_path=str(folder / "frames.npy"),
        video_path=paths["video"],
        cover_path=paths["cover"],
    )
    write_message(write_fd, job)
    assert any(isinstance(message, Done) for message in iter_until_done(read_fd))
    seconds = time.monotonic() - started
    os.close(write_fd)
    child.wait()
    return max(peaks), seconds


def iter_until_done(read_fd: int):
    for message in read_messages(read_fd):
        yield message
        if message.kind in ("done", "failed"):
            return


def watch(pid: int, peaks: list[float]) -> None:
    """The kernel's own high-water mark, read until the child is gone."""
    while True:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            return
        peaks += [int(line.split()[1]) / 1e6 for line in lines if line.startswith("VmHWM")]
        time.sleep(0.1)


def main() -> None:
    rows = []
    for clip in CLIPS:
        with tempfile.TemporaryDirectory() as folder:
            peak, seconds = measure(*clip, Path(folder))
        rows.append("| {}x{} | {} | {} s | {:.2f} GB | {:.0f} s |".format(*clip, peak, seconds))
    head = (
        f"`python tests/bench/finish_memory.py --write` on {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}. Native frames are noise, the encoder's worst case."
    )
    table = ["| size | fps | length | peak memory | time |", "|---|---|---|---|---|", *rows]
    text = f"# The finisher\n\n{head}\n\n" + "\n".join(table) + "\n"
    print(text)
    if "--write" in sys.argv:
        (Path(__file__).parents[2] / "docs" / "benchmarks" / "finisher.md").write_text(text)


if __name__ == "__main__":
    main()
