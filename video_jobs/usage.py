"""What tenants used: requests, videos, seconds of video and device seconds, by day, tenant, key, model and end user.

A request counts on the day it was accepted, everything else on the day the job ended; days are UTC, kept for 400.
"""

from collections import defaultdict
from collections.abc import Awaitable, Sequence
from datetime import date, timedelta
from typing import Any, cast

from redis.asyncio import Redis

from video_jobs import keys

GROUPS = ("day", "tenant", "key_id", "model", "user_id")
METRICS = ("requests", "videos", "seconds", "gpu_seconds", "failed", "cancelled", "refused")
MAX_DAYS = 400
EPOCH = date(1970, 1, 1)


class UsageBook:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def read(
        self,
        since: date | None = None,
        until: date | None = None,
        tenant: str | None = None,
        user: str | None = None,
        groups: Sequence[str] = GROUPS,
    ) -> list[dict[str, Any]]:
        """The sums, one row for each combination of the groups that occurs, sorted by it."""
        today = EPOCH + timedelta(days=(await self._redis.time())[0] // 86400)
        last = min(until or today, today)
        first = max(since or last, today - timedelta(days=MAX_DAYS))
        tenants = [tenant] if tenant else await self._tenants()
        sums: dict[tuple[str, ...], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for number in range((first - EPOCH).days, (last - EPOCH).days + 1):
            for name, fields in zip(tenants, await self._days(number, tenants), strict=True):
                _sum(fields, {"day": str(EPOCH + timedelta(days=number)), "tenant": name}, user, groups, sums)
        return [dict(zip(groups, group, strict=True)) | _shown(sums[group]) for group in sorted(sums)]

    async def _tenants(self) -> list[str]:
        found = await cast(Awaitable[set[bytes]], self._redis.smembers(keys.tenancy("used")))
        return sorted(name.decode() for name in found)

    async def _days(self, number: int, tenants: Sequence[str]) -> list[dict[bytes, bytes]]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in tenants:
                pipe.hgetall(keys.tenancy("usage", str(number), name))
            return list(await pipe.execute())


def _sum(
    fields: dict[bytes, bytes],
    where: dict[str, str],
    user: str | None,
    groups: Sequence[str],
    sums: dict[tuple[str, ...], dict[str, int]],
) -> None:
    for field, amount in fields.items():
        metric, key_id, model, user_id = field.decode(errors="replace").split("\x1f", 3)
        if user is None or user == user_id:
            names = where | {"key_id": key_id, "model": model, "user_id": user_id}
            sums[tuple(names[group] for group in groups)][metric] += int(amount)


def _shown(sums: dict[str, int]) -> dict[str, Any]:
    seconds = round(sums.get("gpu_ms", 0) / 1000, 3)
    return {metric: seconds if metric == "gpu_seconds" else sums.get(metric, 0) for metric in METRICS}
