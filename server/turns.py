"""Turns at something scarce: so many at once altogether, fewer of one tenant, so that no neighbour takes them all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from weakref import WeakValueDictionary


class Turns:
    def __init__(self, per_tenant: int, altogether: int) -> None:
        self._per_tenant = per_tenant
        self._room = asyncio.Semaphore(altogether)
        # A tenant's semaphore lives as long as somebody holds it or waits for it.
        self._own: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def of(self, tenant: str, limit_s: float) -> AsyncIterator[None]:
        """TimeoutError if the turn does not come within the limit; what is done in it takes its own time."""
        own = self._own.get(tenant) or self._own.setdefault(tenant, asyncio.Semaphore(self._per_tenant))
        async with contextlib.AsyncExitStack() as held:
            async with asyncio.timeout(limit_s):
                # The tenant's own first: who waits for himself takes no room.
                await held.enter_async_context(own)
                await held.enter_async_context(self._room)
            yield
