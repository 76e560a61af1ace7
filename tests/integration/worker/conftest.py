import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from arq.connections import ArqRedis

from gpu_worker.workshop import Workshop
from tests.integration.worker.shop import close_shop, open_shop
from video_jobs.catalogue import load_catalogue
from video_jobs.job import Job, JobRecord, VideoSpec
from video_jobs.policy.terms import JobPolicy
from video_jobs.store import JobStore

STANDINS = Path(__file__).parents[2] / "standins"
LEASE_SECONDS = 1.0
REAL = 0.0
"""As the engine's step: the children are the real ones."""


@pytest.fixture
def store(redis_client: ArqRedis) -> JobStore:
    return JobStore(redis_client, lease_s=LEASE_SECONDS)


@pytest.fixture
async def shop(store: JobStore, tmp_path: Path) -> AsyncIterator[Workshop]:
    shop = open_shop(store, tmp_path)
    yield shop
    await close_shop(shop)


class WorkerProcess:
    """A worker parent as a process of its own, with stand-in children unless they are to be real."""

    def __init__(
        self, redis_url: str, state: Path, engine_step_s: float, finisher_step_s: float, **settings: object
    ) -> None:
        self.log = state / f"worker-{len(list(state.glob('worker-*')))}.log"
        environment = os.environ | {
            "COGVIDEOX_REDIS_URL": redis_url,
            "COGVIDEOX_STATE": str(state),
            "COGVIDEOX_LEASE_SECONDS": str(LEASE_SECONDS),
            **{f"COGVIDEOX_{name.upper()}": str(value) for name, value in settings.items()},
        }
        argv = [str(STANDINS / "worker.py"), str(engine_step_s), str(finisher_step_s)]
        argv = [sys.executable, "-P", *(["-m", "gpu_worker"] if engine_step_s == REAL else argv)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)

    def child(self, role: str) -> int | None:
        return next((pid for pid in self.children() if f"\0{role}\0" in _command_line(pid)), None)

    def children(self) -> list[int]:
        pid = self.process.pid
        try:
            return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            return []

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def start_worker(redis_url: str, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    started: list[WorkerProcess] = []

    def start(
        engine_step_s: float = 0.01, finisher_step_s: float = 0.01, url: str = redis_url, **settings: object
    ) -> WorkerProcess:
        started.append(WorkerProcess(url, tmp_path, engine_step_s, finisher_step_s, **settings))
        return started[-1]

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.process.send_signal(signal.SIGKILL)
        worker.process.wait()


@pytest.fixture
def queue_job(store: JobStore) -> Callable[..., Awaitable[Job]]:
    catalogue, made, no_policy = load_catalogue(), iter(range(10**24, 10**25)), JobPolicy()

    async def queue(using: JobStore = store, policy: JobPolicy = no_policy, trace: str = "", **changes: object) -> Job:
        fields = {"model": "cogvideox-2", "prompt": "a cat", "width": 720, "height": 480, "fps": 30}
        spec = VideoSpec.model_validate(fields | {"duration_s": 5, "seed": 1} | changes)
        job_id = str(next(made))
        job = Job(
            id=job_id,
            request_id=f"request-{job_id}",
            body_hash="same",
            tenant="acme",
            key_id="key",
            spec=spec,
            plan=catalogue.plan(spec, "tiny"),
            route="tiny",
            cost_s=1.0,
            policy=policy,
            trace=trace,
        )
        await using.admit(job.tenant, job.request_id, job.body_hash, job.id)
        await using.accept(job)
        return job

    return queue


async def until(store: JobStore, job: Job, met: Callable[[JobRecord], bool], limit_s: float = 60) -> JobRecord:
    """The record, as soon as it is as a test wants it."""
    async with asyncio.timeout(limit_s):
        while True:
            record = await store.get(job.id)
            if record is not None and met(record):
                return record
            await asyncio.sleep(0.01)


async def until_final(store: JobStore, job: Job) -> JobRecord:
    return await until(store, job, lambda record: record.state.is_final)


@pytest.fixture
def wait() -> Callable[..., Awaitable[JobRecord]]:
    return until


@pytest.fixture
def final() -> Callable[..., Awaitable[JobRecord]]:
    return until_final


@pytest.fixture
def alive() -> Callable[[int], bool]:
    return is_alive
