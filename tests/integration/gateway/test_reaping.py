"""A gateway without any worker: what a dead one held goes back into line."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from arq.connections import ArqRedis

from server.app import create_app
from server.settings import GatewaySettings
from video_jobs import keys
from video_jobs.job import Job, JobRecord, JobState
from video_jobs.store import JobStore

LEASE_SECONDS, LIMIT_SECONDS = 0.5, 5


async def test_gateway_alone_puts_the_job_of_a_dead_worker_back_into_line(
    redis_url: str, redis_client: ArqRedis, new_job: Callable[..., Job], tmp_path: Path
) -> None:
    store, job = JobStore(redis_client, lease_s=LEASE_SECONDS), new_job()
    await store.accept(job)
    assert await store.claim("a dead worker", ["tiny"])
    await asyncio.sleep(LEASE_SECONDS)
    assert (await read(store, job)).state is JobState.RUNNING

    app = create_app(GatewaySettings(redis_url=redis_url, state=tmp_path, lease_seconds=LEASE_SECONDS))
    async with app.router.lifespan_context(app), asyncio.timeout(LIMIT_SECONDS):
        while (record := await read(store, job)).state is JobState.RUNNING:
            await asyncio.sleep(0.05)

    assert (record.state, record.lost_leases) == (JobState.QUEUED, 1)
    assert [attempt.ended_by for attempt in record.attempts] == ["lease lost"]
    assert not await redis_client.exists(keys.LEASES)


async def read(store: JobStore, job: Job) -> JobRecord:
    record = await store.get(job.id)
    assert record is not None
    return record
