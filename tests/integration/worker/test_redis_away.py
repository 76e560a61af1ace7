"""Redis goes away in the middle of a job and comes back."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from video_jobs.job import JobRecord, JobState, Stage
from video_jobs.queue import open_redis
from video_jobs.store import LEASE_SECONDS, JobStore

SHORT_LEASE_SECONDS = 1.0
"""Over before Redis is back: whether that costs an attempt is for chance."""


class OwnRedis:
    def __init__(self, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        self._argv = ["redis-server", "--port", "0", "--unixsocket", str(self.socket), "--dir", str(folder)]
        self._argv += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._argv, stdout=subprocess.DEVNULL)
        for _ in range(200):
            try:
                with redis.Redis(unix_socket_path=str(self.socket)) as client:
                    client.ping()
                return
            except redis.RedisError:
                time.sleep(0.02)
        raise RuntimeError("redis-server did not start")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def own_redis(tmp_path: Path, redis_socket: Path) -> Iterator[OwnRedis]:
    # `redis_socket` skips where no redis-server is installed.
    folder = tmp_path / "redis"
    folder.mkdir()
    server = OwnRedis(folder)
    yield server
    server.kill()


def is_rendering(record: JobRecord) -> bool:
    return record.stage is Stage.DENOISE and record.progress > 0


@pytest.mark.parametrize(
    ("away_s", "lease_s", "attempts"),
    [(0.1, LEASE_SECONDS, {1}), (2.5, LEASE_SECONDS, {1}), (2.5, SHORT_LEASE_SECONDS, {1, 2})],
)
async def test_worker_outlives_redis_and_the_job_ends_once(
    away_s: float, lease_s: float, attempts: set[int], own_redis: OwnRedis, queue_job, start_worker, wait, final
) -> None:
    url = f"unix://{own_redis.socket}"
    client = await open_redis(url)
    store = JobStore(client)
    worker = start_worker(engine_step_s=0.1, url=url, lease_seconds=lease_s)
    job = await queue_job(using=store)
    await wait(store, job, is_rendering)
    engine = worker.child("engine")

    own_redis.kill()
    time.sleep(away_s)
    own_redis.start()
    record = await final(store, job)
    await client.aclose()

    assert record.state is JobState.SUCCEEDED
    assert sum(attempt.ended_by == "succeeded" for attempt in record.attempts) == 1
    assert len(record.attempts) in attempts
    assert worker.process.poll() is None
    assert worker.child("engine") == engine
