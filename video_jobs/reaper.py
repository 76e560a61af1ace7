"""Hands on jobs whose lease ended, and ends those past a deadline.

Gateways and workers both run it, so an orphan is found when no worker is left.
"""

import asyncio
import logging
from collections.abc import Callable

from redis.exceptions import RedisError

from video_jobs.store import JobStore

REAP_EVERY_SECONDS = 1.0

logger = logging.getLogger(__name__)


async def run_reaper(
    store: JobStore, every_s: float = REAP_EVERY_SECONDS, on_reaped: Callable[[list[str]], None] = lambda _: None
) -> None:
    """Reap until cancelled; Redis being away is not the reaper's end."""
    while True:
        try:
            reaped = await store.reap()
            on_reaped(reaped)
            for job_id in reaped:
                logger.warning("reaped", extra={"job_id": job_id})
        except (RedisError, OSError) as exc:
            logger.warning("reaper waits for redis", extra={"dependency": "redis", "error": type(exc).__name__})
        await asyncio.sleep(every_s)
