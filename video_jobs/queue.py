"""Connections to Redis: a server, over TLS or a socket, or the master that Sentinels name; patient in outages."""

import json
from typing import Any
from urllib.parse import urlsplit

from arq.connections import ArqRedis
from redis.asyncio import ConnectionPool, Redis, Sentinel
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

CONNECT_SECONDS, ANSWER_SECONDS = 2, 10
SENTINEL_PORT = 26379


class BadRedisUrl(ValueError):
    """A Redis URL is redis://, rediss:// or unix://PATH, or sentinel://HOST:PORT,HOST:PORT/SERVICE."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


def to_json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()


async def open_redis(url: str) -> ArqRedis:
    """Connect, or raise once a few tries have failed. arq's default is pickle, which would run what Redis holds."""
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.05), 3)
    lost = [RedisConnectionError, RedisTimeoutError, OSError]
    # Whatever lies between may forget a connection and tell nobody: without a limit its answer is waited for for ever.
    redis: ArqRedis = ArqRedis.from_pool(open_pool(url, retry, lost, ANSWER_SECONDS))
    redis.job_serializer, redis.job_deserializer = to_json, json.loads
    try:
        await redis.ping()
    except BaseException:
        await redis.aclose()
        raise
    return redis


def lazy_redis(url: str) -> Redis:
    """A client that connects when it is first asked: for a process that must live while Redis is away."""
    retry = Retry(ExponentialBackoff(cap=0.2, base=0.02), 3)
    client: Redis = Redis.from_pool(open_pool(url, retry, [RedisConnectionError, OSError], ANSWER_SECONDS))
    return client


def open_pool(url: str, retry: Retry, retry_on: list[type[Exception]], answer_s: float) -> ConnectionPool:
    # A demoted master refuses writes; asked again, the Sentinels name its successor.
    options: dict[str, Any] = {"retry": retry, "retry_on_error": [*retry_on, ReadOnlyError]}
    options |= {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": answer_s}
    try:
        pool = (
            _sentinel_pool(url, options) if url.startswith("sentinel://") else ConnectionPool.from_url(url, **options)
        )
    except ValueError as exc:
        raise BadRedisUrl from exc
    pool.connection_class = _sturdy(pool.connection_class)
    return pool


def _sturdy(kind: type[Any]) -> type[Any]:
    """uvloop raises RuntimeError for a connection that the peer has just closed: to the pool that is a lost one too."""

    class Sturdy(kind):  # type: ignore[misc]
        async def send_packed_command(self, *args: Any, **named: Any) -> None:
            try:
                await super().send_packed_command(*args, **named)
            except RuntimeError as exc:
                raise RedisConnectionError(str(exc)) from exc

    return Sturdy


def _sentinel_pool(url: str, options: dict[str, Any]) -> ConnectionPool:
    """`sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE/DB?ssl=true&sentinel_password=…`"""
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    said: dict[str, Any] = dict(parse_url(f"redis://{credentials and credentials + '@'}sentinel?{parts.query}"))
    said.pop("host")
    if not hosts or not service or not (database or "0").isdigit():
        raise BadRedisUrl
    own = {name: said.pop(f"sentinel_{name}") for name in ("username", "password") if f"sentinel_{name}" in said}
    said["ssl"] = str(said.get("ssl", "")).lower() in ("1", "true", "yes")
    secure = {name: value for name, value in said.items() if name.startswith("ssl")}
    nodes = [_address(host) for host in hosts.split(",")]
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        nodes, sentinel_kwargs=own | secure | {"socket_timeout": CONNECT_SECONDS}
    )
    return SentinelPool(service, sentinel, db=int(database or 0), **said, **options)  # type: ignore[no-untyped-call]


class SentinelPool(SentinelConnectionPool):
    """Closes its connections to the Sentinels too, which the library leaves open."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        for sentinel in self.sentinel_manager.sentinels:
            await sentinel.connection_pool.disconnect()


def _address(host: str) -> tuple[str, int]:
    name, _, port = host.rpartition(":")
    return (name.strip("[]"), int(port)) if name and port.isdigit() else (host, SENTINEL_PORT)
