"""Who is at work: each worker announces its routes and its tokenizer's letters, and is forgotten when it stops."""

from collections.abc import Awaitable, Sequence
from typing import cast

from redis.asyncio import Redis

from video_jobs import keys

ANNOUNCED_SECONDS = 30


class WorkerRegistry:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def announce(self, worker: str, routes: Sequence[str], alphabet: str) -> None:
        """Say that this worker is ready; to be repeated well within `ANNOUNCED_SECONDS`."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(keys.worker(worker), ",".join(routes), ex=ANNOUNCED_SECONDS)
            pipe.sadd(keys.WORKERS, worker)
            for route in routes:
                pipe.set(keys.alphabet(route), alphabet)
            await pipe.execute()

    async def leave(self, worker: str) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(keys.worker(worker))
            pipe.srem(keys.WORKERS, worker)
            await pipe.execute()

    async def ready(self) -> dict[str, list[str]]:
        """The routes of every worker that announced itself lately."""
        names = [name.decode() for name in await cast(Awaitable[set[bytes]], self._redis.smembers(keys.WORKERS))]
        routes = await self._redis.mget([keys.worker(name) for name in names]) if names else []
        return {name: said.decode().split(",") for name, said in zip(names, routes, strict=True) if said}

    async def alphabet(self, route: str) -> str | None:
        """The letters the route's tokenizer knows; None while no worker ever said."""
        letters = await self._redis.get(keys.alphabet(route))
        return letters.decode() if letters is not None else None
