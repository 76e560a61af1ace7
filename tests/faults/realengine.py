"""Twenty kills of the real engine and its worker, with the tiny model: every clip comes out bit for bit the same."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.faults.callers import Callers
from tests.faults.clip import frames_in
from tests.faults.evidence import read_bucket
from tests.faults.fleet import Fleet, Shape
from video_jobs.job import JobRecord, JobState

SHAPE = Shape(
    gateways=1,
    workers=2,
    lease_s=4.0,
    worker_command=(sys.executable, "-P", "-m", "gpu_worker"),
    environment={"COGVIDEOX_MODEL": "tiny", "COGVIDEOX_ACCEPT_UNKNOWN_PROMPTS": "true", "OMP_NUM_THREADS": "2"},
)
ON_ENGINE = ("text", "denoise", "decode")
STRIKES_PER_JOB = 1  # a strike may hit the next job, which has just begun; a third death would end it as poison
PATIENCE_SECONDS = 900.0
WANTED = {"seed": 7, "duration": 5, "fps": 30}


@dataclass
class Survived:
    kills: dict[str, int]
    jobs: int
    succeeded: int
    different_clips: int
    frames: int
    seconds: float
    failures: list[str]
    """What became of jobs that did not succeed."""

    @property
    def problems(self) -> list[str]:
        found = [f"{self.jobs - self.succeeded} jobs did not succeed"] if self.succeeded != self.jobs else []
        found += [f"{self.different_clips} different clips"] if self.different_clips != 1 else []
        return found + self.failures


async def strike(folder: Path, kills: int, jobs: int = 24) -> Survived:
    """The same job again and again; whoever renders it is killed at some step."""
    started = time.monotonic()
    async with Fleet(folder, SHAPE) as fleet:
        callers = Callers(fleet.urls(), fleet.key, folder, 1, is_plain=True)
        tending = asyncio.create_task(fleet.tend())
        first = await callers.one_job("a cat", "undisturbed", **WANTED)
        rest = [callers.one_job("a cat", f"struck-{number}", **WANTED) for number in range(jobs)]
        crowd = asyncio.ensure_future(asyncio.gather(*rest))
        struck = await _kill_renderers(fleet, kills, crowd)
        ends = [first, *await asyncio.wait_for(crowd, PATIENCE_SECONDS)]
        tending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tending
        await callers.close()
        objects = await asyncio.to_thread(read_bucket, fleet.s3_endpoint, folder)
        records = await fleet.records()
    clips = {record.video.sha256: record.video.key for record in records if record.video}
    one = folder / "clip.mp4"
    one.write_bytes(objects[next(iter(clips.values()))])
    return Survived(
        kills=dict(struck),
        jobs=len(ends),
        succeeded=ends.count("SUCCESS"),
        different_clips=len(clips),
        frames=frames_in(one),
        seconds=time.monotonic() - started,
        failures=[_story(record) for record in records if record.state is not JobState.SUCCEEDED],
    )


def _story(record: JobRecord) -> str:
    ends = ", ".join(f"{attempt.ended_by}" for attempt in record.attempts)
    return f"{record.job.id} is {record.state}: {record.error_code}; its attempts ended by {ends}"


async def _kill_renderers(fleet: Fleet, kills: int, crowd: "asyncio.Future[list[str]]") -> Counter[str]:
    struck: Counter[str] = Counter()
    of_job: Counter[str] = Counter()
    while sum(struck.values()) < kills and not crowd.done():
        await asyncio.sleep(0.03)
        for record in await fleet.records():
            if _is_on_engine(record) and of_job[record.job.id] < STRIKES_PER_JOB and sum(struck.values()) < kills:
                role = _kill(fleet, record, takes_worker=sum(struck.values()) % 4 == 3)
                struck[role] += bool(role)
                of_job[record.job.id] += bool(role)
                await asyncio.sleep(0.5 if role else 0)
    del struck[""]
    return struck


def _is_on_engine(record: JobRecord) -> bool:
    return record.state is JobState.RUNNING and record.stage in ON_ENGINE and bool(record.attempts)


def _kill(fleet: Fleet, record: JobRecord, takes_worker: bool) -> str:
    """Whoever holds the job, or its engine; the role that was killed."""
    name = fleet.holder(record)
    if name is None:
        return ""
    if takes_worker:
        fleet.kill(name)
        return "worker"
    engine = fleet.children(name).get("engine")
    if engine is None:
        return ""
    with contextlib.suppress(ProcessLookupError):
        os.kill(engine, signal.SIGKILL)
    return "engine"
