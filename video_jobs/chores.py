"""Loops that run beside the work, until they are ended."""

import asyncio
from typing import Any


async def end(chores: set[asyncio.Task[Any]]) -> None:
    """A cancellation can get lost in the middle of a client's own retry: then it is said again."""
    while chores:
        for chore in chores:
            chore.cancel()
        _, chores = await asyncio.wait(chores, timeout=1)
