"""How many jobs stand where, right now: what an operator looks at and an autoscaler follows."""

from collections import Counter
from collections.abc import Awaitable, Iterable
from typing import Any, cast

from redis.asyncio import Redis

from video_jobs import keys
from video_jobs.job import JOB_VERSION, Frozen
from video_jobs.limits import ServiceClass
from video_jobs.workers import WorkerRegistry

# A line keeps its jobs by class first, then by order of acceptance.
CLASS_WIDTH = 1e14
OVERDUE_MS = 5000


class Census(Frozen):
    queued: dict[tuple[str, ServiceClass], int]
    oldest_s: dict[tuple[str, ServiceClass], float]
    """How long the longest waiting job of a route and class has waited."""

    running: dict[str, int]
    workers: dict[str, int]
    delayed: int
    dead: int
    paused: int
    overdue: int
    """Leases that ended some seconds ago and that nobody has handed on."""

    audit_backlog: int
    """Audit records that are not yet sealed and exported."""


async def take_census(redis: Redis, routes: Iterable[str]) -> Census:
    """Of these routes, and of those that workers serve."""
    at = await redis.time()
    now_ms = at[0] * 1000 + at[1] // 1000
    workers = Counter(route for served in (await WorkerRegistry(redis).ready()).values() for route in served)
    lines = [(route, kind) for route in sorted({*routes, *workers}) for kind in ServiceClass]
    async with redis.pipeline(transaction=False) as pipe:
        for route, kind in lines:
            bounds = (keys.waiting(f"{JOB_VERSION}:{route}"), kind * CLASS_WIDTH, (kind + 1) * CLASS_WIDTH - 1)
            pipe.zcount(*bounds)
            pipe.zrangebyscore(*bounds, start=0, num=1)
        pipe.zrange(keys.LEASES, 0, -1)
        pipe.zcount(keys.LEASES, "-inf", now_ms - OVERDUE_MS)
        pipe.zcard(keys.schedule("delayed"))
        pipe.zcard(keys.DEAD)
        pipe.hlen(keys.schedule("paused"))
        pipe.get(keys.AUDIT_SEQ)
        pipe.hget(keys.AUDIT + "-state", "exported")
        *stood, leases, overdue, delayed, dead, paused, recorded, exported = await pipe.execute()
    counts, first = stood[::2], [ids[0] if ids else None for ids in stood[1::2]]
    accepted = await _read(redis, [job_id for job_id in first if job_id], "accepted_ms")
    routes_held = (await _read(redis, leases, "route")).values()
    return Census(
        queued=dict(zip(lines, counts, strict=True)),
        oldest_s={
            line: max(0.0, (now_ms - int(accepted[job_id])) / 1000) if job_id in accepted else 0.0
            for line, job_id in zip(lines, first, strict=True)
        },
        running=dict.fromkeys({route for route, _ in lines}, 0) | Counter(route.decode() for route in routes_held),
        workers=dict.fromkeys({route for route, _ in lines}, 0) | workers,
        delayed=delayed,
        dead=dead,
        paused=paused,
        overdue=overdue,
        audit_backlog=int(recorded or 0) - int(exported or 0),
    )


async def _read(redis: Redis, ids: list[bytes], field: str) -> dict[bytes, bytes]:
    async with redis.pipeline(transaction=False) as pipe:
        for job_id in ids:
            cast(Awaitable[Any], pipe.hget(keys.job(job_id.decode()), field))
        return {job_id: value for job_id, value in zip(ids, await pipe.execute(), strict=True) if value is not None}
