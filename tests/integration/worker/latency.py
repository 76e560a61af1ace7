"""How long an idle worker needs from accept to claim, by Redis's own clock: for the bench and its test."""

import asyncio
from collections.abc import Awaitable, Callable
from statistics import median

from video_jobs.job import Job
from video_jobs.store import JobStore


async def enqueue_to_start_ms(store: JobStore, queue_job: Callable[[], Awaitable[Job]], jobs: int) -> float:
    """The median over `jobs` jobs, each queued when the last is over."""
    waited = []
    for _ in range(jobs):
        job = await queue_job()
        while (record := await store.get(job.id)) is None or not record.state.is_final:
            await asyncio.sleep(0.02)
        waited.append(record.attempts[0].started_ms - record.accepted_ms)
        await asyncio.sleep(0.05)
    return median(waited)
