"""A worker's hold on one job: beaten while it lasts, with the latest progress, and ended by whatever ends it first."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TypeVar

from redis.exceptions import RedisError

from video_jobs.errors import JobCancelled
from video_jobs.job import Claim, Stage
from video_jobs.store import JobStore
from video_jobs.verdicts import Hold

REPORT_EVERY_SECONDS = 0.5

T = TypeVar("T")

logger = logging.getLogger(__name__)


class LeaseEnd(StrEnum):
    LOST = "lost"
    CANCELLED = "cancelled"
    DRAINED = "drained"


class Lease:
    def __init__(self, store: JobStore, claim: Claim, on_end: Callable[[], Awaitable[None]]) -> None:
        self.claim = claim
        self.ended: LeaseEnd | None = None
        self.over = asyncio.Event()
        self._store = store
        self._on_end = on_end
        self._beat_s = store.lease_s / 3
        self._noted: tuple[Stage, float] | None = None
        self._stopping: asyncio.Task[None] | None = None

    def note(self, stage: Stage, progress: float) -> None:
        """Remember the latest progress; the next tick reports it."""
        self._noted = (stage, progress)

    def end(self, how: LeaseEnd) -> None:
        """Stop the work on this job, once, for the first reason that comes."""
        if self.ended is None:
            self.ended = how
            self.over.set()
            logger.info("lease ended", extra={"job_id": self.claim.job_id, "how": how.value})
            self._stopping = asyncio.create_task(self._stop())

    async def unless_ended(self, doing: Awaitable[T], but_for: LeaseEnd | None = None) -> T:
        """What is waited for; JobCancelled as soon as the lease ends, but for one reason."""
        task, ended = asyncio.ensure_future(doing), asyncio.create_task(self.over.wait())
        try:
            await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
            if task.done() or self.ended is but_for:
                return await task
            raise JobCancelled
        finally:
            task.cancel()
            ended.cancel()

    async def keep(self) -> None:
        """Beat and report until cancelled. While Redis is away the work goes on: the token decides in the end."""
        beaten = time.monotonic()
        while self.ended is not LeaseEnd.LOST:
            await asyncio.sleep(min(REPORT_EVERY_SECONDS, self._beat_s / 2))
            try:
                # A Redis that hangs must not hang the beat: the next one may get through.
                async with asyncio.timeout(self._beat_s):
                    if time.monotonic() - beaten >= self._beat_s:
                        self._heard(await self._store.beat(self.claim))
                        beaten = time.monotonic()
                    await self._report()
            except (RedisError, OSError) as exc:
                logger.warning("beat failed", extra={"dependency": "redis", "error": type(exc).__name__})

    async def _report(self) -> None:
        if self._noted is not None:
            noted, self._noted = self._noted, None
            self._heard(await self._store.report(self.claim, *noted))

    def _heard(self, hold: Hold) -> None:
        if hold is Hold.LOST:
            self.end(LeaseEnd.LOST)
        elif hold is Hold.CANCEL:
            self.end(LeaseEnd.CANCELLED)

    async def _stop(self) -> None:
        await self._on_end()
