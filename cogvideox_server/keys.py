"""`cogvideox-server keys`: make, list and revoke API keys."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.keys import KeyRing


def keys(args: argparse.Namespace) -> int:
    return asyncio.run(_with_ring({"create": _create, "list": _list, "revoke": _revoke}[args.action], args))


async def _with_ring(act: "Callable[[KeyRing, argparse.Namespace], Awaitable[int]]", args: argparse.Namespace) -> int:
    from redis.exceptions import RedisError

    from server.keys import KeyRing
    from server.settings import GatewaySettings
    from video_jobs.links import secret_file
    from video_jobs.queue import lazy_redis

    settings = GatewaySettings(**({"state": args.state} if args.state else {}))
    socket = settings.state / "redis" / "redis.sock"
    url = args.redis_url or (f"unix://{socket}" if socket.exists() else settings.redis_url.get_secret_value())
    redis = lazy_redis(url)
    try:
        return await act(KeyRing(redis, secret_file(settings.master_key)), args)
    except (RedisError, OSError) as error:
        print(f"cogvideox-server keys: Redis cannot be reached: {error}", file=sys.stderr)
        return 1
    finally:
        await redis.aclose()


async def _create(ring: "KeyRing", args: argparse.Namespace) -> int:
    print(await ring.create(args.tenant, args.name))
    print("Keep it: it is not shown again.", file=sys.stderr)
    return 0


async def _list(ring: "KeyRing", args: argparse.Namespace) -> int:
    for key in await ring.list():
        print(f"{key.id}\t{key.tenant}\t{key.name}")
    return 0


async def _revoke(ring: "KeyRing", args: argparse.Namespace) -> int:
    if await ring.revoke(args.id.partition(".")[0]):
        print("revoked", file=sys.stderr)
        return 0
    print("cogvideox-server keys: no such key", file=sys.stderr)
    return 1
