"""`cogvideox-server users`: warn, throttle or block one end user of a tenant, with a reason and an end."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cogvideox_server.operator import note, operator
from cogvideox_server.redis import find_redis

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from video_jobs.policy.users import Restriction


def users(args: argparse.Namespace) -> int:
    return asyncio.run(_act(args))


async def _act(args: argparse.Namespace) -> int:
    from redis.exceptions import RedisError

    from video_jobs.fragment import read_settings
    from video_jobs.queue import lazy_redis
    from video_jobs.settings import QueueSettings, StoreSettings

    state = args.state or read_settings(StoreSettings).state
    named = read_settings(QueueSettings).redis_url.get_secret_value()
    redis = lazy_redis(find_redis(args.redis_url, state) or named)
    try:
        return await ACTIONS[args.action](redis, args)
    except (RedisError, OSError) as error:
        print(f"cogvideox-server users: Redis cannot be reached: {error}", file=sys.stderr)
        return 1
    except ValueError as error:
        print(f"cogvideox-server users: {error}", file=sys.stderr)
        return 1
    finally:
        await redis.aclose()


async def _restrict(redis: "Redis", args: argparse.Namespace) -> int:
    from video_jobs.policy.users import Measure, Restriction, UserBook

    until_ms = round((time.time() + args.for_s) * 1000) if args.for_s else None
    wanted = Restriction(
        tenant=args.tenant,
        user_id=args.user,
        measure=Measure(args.action),
        reason=args.reason,
        until_ms=until_ms,
        per_minute=getattr(args, "per_minute", 1),
        by=operator(),
    )
    await note(redis, f"users {args.action}", _about(args))
    await UserBook(redis).restrict(wanted)
    print(_line(wanted), file=sys.stderr)
    return 0


async def _lift(redis: "Redis", args: argparse.Namespace) -> int:
    from video_jobs.policy.users import UserBook

    await note(redis, f"users {args.action}", _about(args))
    was_held = await UserBook(redis).lift(args.tenant, args.user)
    print("lifted" if was_held else "nothing held", file=sys.stderr)
    return 0 if was_held else 1


async def _list(redis: "Redis", args: argparse.Namespace) -> int:
    from video_jobs.policy.users import UserBook

    for held in await UserBook(redis).list(args.tenant):
        print(json.dumps(held.model_dump(mode="json"), ensure_ascii=False) if args.json else _line(held))
    return 0


def _about(args: argparse.Namespace) -> str:
    """What the command line named, for the audit."""
    named = ("tenant", "user", "reason", "for_s", "per_minute")
    said = {name: value for name in named if (value := getattr(args, name, None))}
    return json.dumps(said, ensure_ascii=False)


def _line(held: "Restriction") -> str:
    end = f"{datetime.fromtimestamp(held.until_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC" if held.until_ms else "lifted"
    return "\t".join((held.tenant, held.user_id, held.measure.value, f"until {end}", held.reason, held.by))


ACTIONS: "dict[str, Callable[[Redis, argparse.Namespace], Awaitable[int]]]" = {
    "warn": _restrict,
    "throttle": _restrict,
    "block": _restrict,
    "lift": _lift,
    "list": _list,
}
