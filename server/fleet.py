"""How many workers serve a route, remembered for a few seconds: waiting times are predicted with it."""

import time

from video_jobs.workers import WorkerRegistry

REMEMBERED_SECONDS = 3.0


class Fleet:
    def __init__(self, registry: WorkerRegistry) -> None:
        self._registry = registry
        self._read_until = 0.0
        self._counts: dict[str, int] = {}

    async def workers(self, route: str) -> int:
        """As many as announced themselves lately, or as many as there last were: they come back after an outage."""
        if time.monotonic() > self._read_until:
            counts: dict[str, int] = {}
            for routes in (await self._registry.ready()).values():
                for served in routes:
                    counts[served] = counts.get(served, 0) + 1
            self._counts |= counts
            self._read_until = time.monotonic() + REMEMBERED_SECONDS
        return max(1, self._counts.get(route, 1))
