"""Waiting out what is away: Redis for as long as it takes, the results' store within a limit."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.exceptions import RedisError

REDIS_PAUSE_SECONDS, ANSWER_SECONDS = 0.5, 5.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 15.0

T = TypeVar("T")

logger = logging.getLogger(__name__)


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Until Redis answers: finished work is never thrown away because it was away."""
    while True:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await call()
        except (RedisError, OSError) as exc:
            logger.warning("waiting for redis", extra={"dependency": "redis", "error": type(exc).__name__})
            await asyncio.sleep(REDIS_PAUSE_SECONDS)


async def persistently(move: Callable[[], T], limit_s: float) -> T:
    """A transfer from or to the store, on a thread, tried again with growing pauses; OSError once the limit is over."""
    deadline, pause_s = asyncio.get_running_loop().time() + limit_s, FIRST_PAUSE_SECONDS
    while True:
        try:
            return await asyncio.to_thread(move)
        except OSError as exc:
            if asyncio.get_running_loop().time() + pause_s > deadline:
                raise
            logger.warning("waiting for the store", extra={"dependency": "store", "error": repr(exc)[:300]})
        await asyncio.sleep(pause_s)
        pause_s = min(LONGEST_PAUSE_SECONDS, 2 * pause_s)
