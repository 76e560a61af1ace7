"""Deletes what nobody may read any more: jobs past their retention, and objects that belong to no job."""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator

from redis.exceptions import RedisError

from video_jobs import keys
from video_jobs.job import JobRecord
from video_jobs.logs import dependency_of
from video_jobs.results import ResultStore
from video_jobs.store import JobStore

DAY_SECONDS = 24 * 3600.0
EVERY_SECONDS, OBJECTS_EVERY_SECONDS = 60, 3600
AT_ONCE, FOREVER_MS = 100, 1 << 52
YOUNG_SECONDS = 3600.0
"""An upload that may not be published yet is never younger garbage than this."""

IMAGE_GRACE_SECONDS = 7 * DAY_SECONDS
"""An image may be needed again by an operator's retry until its job's record is gone."""

logger = logging.getLogger(__name__)


class Sweeper:
    def __init__(self, store: JobStore, results: ResultStore, retention_s: float) -> None:
        self._store, self._results, self._retention_s = store, results, retention_s

    async def sweep_jobs(self) -> int:
        """Forget jobs that ended before the retention: their objects first, so that nothing is left unnamed."""
        # By Redis's clock, which wrote when they ended: one gateway's own may be days ahead.
        until, swept = round((await self._now() - self._retention_s) * 1000), 0
        while old := await self._store.ended_before(until, AT_ONCE):
            for record in old:
                swept += await self._forget(record, until)
        return swept

    async def sweep_user(self, tenant: str, user_id: str) -> tuple[int, int]:
        """Forget one end user's jobs that have ended, whatever the retention; how many, and how many have not ended."""
        swept, left = 0, 0
        for job_id in await self._store.of_user(tenant, user_id):
            record = await self._store.get(job_id)
            if record is not None and record.state.is_final:
                swept += await self._forget(record, FOREVER_MS)
            elif record is not None:
                left += 1
        return swept, left

    async def _now(self) -> float:
        seconds, microseconds = await self._store.redis.time()
        return float(seconds + microseconds / 1e6)

    async def _forget(self, record: JobRecord, ended_before_ms: int) -> bool:
        for key in _objects(record):
            await asyncio.to_thread(self._results.delete, key)
        return await self._store.expire(record.job, ended_before_ms)

    async def sweep_checkpoints(self) -> int:
        """Delete where ended jobs stood: a worker that ends a job does so itself, but not every job ends in one."""
        spent = keys.schedule("spent")
        found: list[bytes] = await self._store.redis.srandmember(spent, AT_ONCE)  # type: ignore[misc]
        for key in found:
            await asyncio.to_thread(self._results.delete, key.decode())
            await self._store.redis.srem(spent, key)  # type: ignore[misc]
        return len(found)

    async def sweep_objects(self) -> int:
        """Delete what zombies, crashes and refused requests left in the store."""
        swept, now = 0, await self._now()
        async for key, written in self._listed("videos/", "checkpoints/"):
            if await self._is_garbage(key, now - written):
                await asyncio.to_thread(self._results.delete, key)
                swept += 1
        async for key, written in self._listed("images/"):
            is_old = now - written > self._retention_s + IMAGE_GRACE_SECONDS
            if is_old and not await self._store.redis.hexists(keys.schedule("images"), key):  # type: ignore[misc]
                await asyncio.to_thread(self._results.delete, key)
                swept += 1
        return swept

    async def _is_garbage(self, key: str, age_s: float) -> bool:
        """A job's objects are `KIND/JOB/TOKEN/NAME`. While it is open, each may still be needed."""
        job_id = key.split("/")[1]
        record = await self._store.get(job_id)
        if record is None:
            # Its record may have been lost with Redis: it is kept as long as if it had just ended.
            return age_s > self._retention_s
        return record.state.is_final and age_s > YOUNG_SECONDS and key not in _objects(record)

    async def _listed(self, *prefixes: str) -> AsyncIterator[tuple[str, float]]:
        """Page by page, so that a large bucket does not fill the memory."""
        for prefix in prefixes:
            listing = iter(self._results.keys(prefix))
            while page := await asyncio.to_thread(list, itertools.islice(listing, 1000)):
                for found in page:
                    yield found


async def run_sweeper(sweeper: Sweeper, store: JobStore) -> None:
    """Sweep until cancelled; of all gateways one at a time, by turns that Redis keeps."""
    while True:
        try:
            for name, every, sweep in (
                ("jobs", EVERY_SECONDS, sweeper.sweep_jobs),
                ("checkpoints", EVERY_SECONDS, sweeper.sweep_checkpoints),
                ("objects", OBJECTS_EVERY_SECONDS, sweeper.sweep_objects),
            ):
                if await store.redis.set(keys.schedule(f"swept-{name}"), 1, nx=True, ex=every) and (n := await sweep()):
                    logger.info("swept", extra={"what": name, "count": n})
        except (RedisError, OSError) as exc:
            logger.warning("sweeper waits", extra={"dependency": dependency_of(exc), "error": repr(exc)})
        await asyncio.sleep(EVERY_SECONDS / 2)


def _objects(record: JobRecord) -> tuple[str, ...]:
    """What the record names; nothing once its owner has deleted the result."""
    return (record.video.key, record.video.cover_key) if record.video and not record.is_deleted else ()
