"""The connection to Redis, as arq keeps it: JSON both ways, patient through short outages."""

import json
from typing import Any

from arq.connections import ArqRedis, RedisSettings, create_pool
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError


def to_json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


async def open_redis(url: str) -> ArqRedis:
    """Connect, or raise once a few tries have failed. arq's default is pickle, which would run what Redis holds."""
    settings = RedisSettings.from_dsn(url)
    settings.retry = Retry(ExponentialBackoff(cap=0.5, base=0.05), 3)
    settings.retry_on_error = [RedisConnectionError, RedisTimeoutError, OSError]
    return await create_pool(settings, job_serializer=to_json, job_deserializer=json.loads)


def lazy_redis(url: str) -> Redis:
    """A client that connects when it is first asked: for a process that must live while Redis is away."""
    client: Redis = Redis.from_url(
        url,
        retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), 3),
        retry_on_error=[RedisConnectionError, OSError],
        socket_connect_timeout=2,
        socket_timeout=10,
    )
    return client
