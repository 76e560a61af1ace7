"""What an operator decided about one end user of a tenant: warned, throttled or blocked, why, and until when."""

import json
from collections.abc import Awaitable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, cast

from pydantic import Field
from redis.asyncio import Redis

from video_jobs import keys
from video_jobs.job import Frozen

_SCRIPT = Path(__file__).parent / "restricted.lua"


class Measure(StrEnum):
    WARN = "warn"
    THROTTLE = "throttle"
    BLOCK = "block"


class Restriction(Frozen):
    tenant: str
    user_id: str
    measure: Measure
    reason: str = Field(min_length=1, max_length=500)
    until_ms: int | None = None
    per_minute: int = Field(default=1, ge=1)
    """How many requests a throttled user may send."""

    by: str = ""


class Standing(NamedTuple):
    """What holds for a request of this user now; a throttled one may have to wait."""

    restriction: Restriction
    wait_s: float


class UserBook:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._check = redis.register_script(_SCRIPT.read_text())

    async def restrict(self, wanted: Restriction) -> None:
        """In place of whatever held before; it ends by itself."""
        key = keys.restriction(wanted.tenant, wanted.user_id)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(key, wanted.model_dump_json(), pxat=wanted.until_ms)
            pipe.sadd(keys.RESTRICTED, json.dumps([wanted.tenant, wanted.user_id]))
            await pipe.execute()

    async def lift(self, tenant: str, user_id: str) -> bool:
        """False if nothing held."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(keys.restriction(tenant, user_id))
            pipe.srem(keys.RESTRICTED, json.dumps([tenant, user_id]))
            return bool((await pipe.execute())[0])

    async def list(self, tenant: str | None = None) -> list[Restriction]:
        """What holds now; what has ended is forgotten here."""
        known = await cast(Awaitable[set[bytes]], self._redis.smembers(keys.RESTRICTED))
        found = []
        for member in sorted(known):
            whose, user_id = json.loads(member)
            if tenant not in (None, whose):
                continue
            text = await self._redis.get(keys.restriction(whose, user_id))
            if text is None:
                await cast(Awaitable[int], self._redis.srem(keys.RESTRICTED, member))
            else:
                found.append(Restriction.model_validate_json(text))
        return found

    async def check(self, tenant: str, user_id: str) -> Standing | None:
        """Asked for each new request of the user: a throttled one's is counted."""
        key = keys.restriction(tenant, user_id)
        said = await self._check(keys=[key, key + ":rate"], args=[])
        if not said:
            return None
        return Standing(Restriction.model_validate_json(said[0]), int(said[1]) / 1000)
