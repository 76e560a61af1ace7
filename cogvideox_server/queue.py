"""`cogvideox-server queue`: the operator's hands on the queue, by way of Redis. Every change is audited."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from cogvideox_server.operator import operator
from cogvideox_server.redis import find_redis
from video_jobs import keys

if TYPE_CHECKING:
    from video_jobs.job import JobRecord
    from video_jobs.store import JobStore


def queue(args: argparse.Namespace) -> int:
    return asyncio.run(_act(args))


async def _act(args: argparse.Namespace) -> int:
    from redis.exceptions import RedisError

    from video_jobs.fragment import read_settings
    from video_jobs.queue import lazy_redis
    from video_jobs.settings import QueueSettings
    from video_jobs.store import JobStore

    named = read_settings(QueueSettings).redis_url.get_secret_value()
    redis = lazy_redis(find_redis(args.redis_url, args.state) or named)
    try:
        return await ACTIONS[args.action](JobStore(redis), args)
    except (RedisError, OSError) as error:
        return _fail(f"Redis cannot be reached: {error}")
    finally:
        await redis.aclose()


async def _status(store: "JobStore", args: argparse.Namespace) -> int:
    """What waits, runs and lies dead; which routes have workers, and which are paused."""
    from video_jobs.workers import WorkerRegistry

    redis = store.redis
    waiting = {line: await redis.zcard(keys.waiting(line)) async for line in _suffixes(store, keys.WAITING)}
    paused = await cast(Awaitable[dict[bytes, bytes]], redis.hgetall(keys.schedule("paused")))
    told = {
        "waiting": waiting,
        "delayed": await redis.zcard(keys.schedule("delayed")),
        "running": await redis.zcard(keys.LEASES),
        "dead": await redis.zcard(keys.DEAD),
        "workers": await WorkerRegistry(redis).ready(),
        "paused": {route.decode(): json.loads(by) for route, by in paused.items()},
    }
    print(json.dumps(told, ensure_ascii=False, indent=None if args.json else 2))
    return 0


async def _list(store: "JobStore", args: argparse.Namespace) -> int:
    for job_id in await _ids(store, args.state_of, args.limit):
        record = await store.get(job_id)
        if record is not None and args.tenant in (None, record.job.tenant):
            print(json.dumps(_row(record), ensure_ascii=False) if args.json else _line(record))
    return 0


async def _show(store: "JobStore", args: argparse.Namespace) -> int:
    record = await store.get(args.id)
    if record is None:
        return _fail("no such job")
    print(record.model_dump_json(indent=None if args.json else 2))
    return 0


async def _cancel(store: "JobStore", args: argparse.Namespace) -> int:
    return await _each(args.id, lambda job_id: store.cancel_for_operator(job_id, operator()), ("cancelled", "asked"))


async def _retry(store: "JobStore", args: argparse.Namespace) -> int:
    ids = args.id or (await _ids(store, "dead", sys.maxsize) if args.dead else [])
    if not ids and not args.dead:
        return _fail("which job? Name ids, or --dead for all that failed too often")
    return await _each(ids, lambda job_id: store.retry(job_id, operator()), ("queued",))


async def _pause(store: "JobStore", args: argparse.Namespace) -> int:
    changed = await (store.pause if args.action == "pause" else store.resume)(args.route, operator())
    word = "paused" if args.action == "pause" else "resumed"
    print(f"{args.route}: {word}" if changed else f"{args.route}: nothing to do", file=sys.stderr)
    return 0


async def _each(ids: list[str], act: Callable[[str], Awaitable[Any]], good: tuple[str, ...]) -> int:
    said = {job_id: (await act(job_id)).value for job_id in ids}
    for job_id, how in said.items():
        print(f"{job_id}\t{how}")
    return 0 if all(how in good for how in said.values()) else 1


async def _ids(store: "JobStore", state: str, limit: int) -> list[str]:
    """The oldest first."""
    redis = store.redis
    key = {"running": keys.LEASES, "dead": keys.DEAD, "delayed": keys.schedule("delayed")}.get(state)
    if state == "ended":
        found = await redis.zrevrange(keys.schedule("ended"), 0, limit - 1)
    elif key:
        found = await redis.zrange(key, 0, limit - 1)
    else:
        lines = [line async for line in _suffixes(store, keys.WAITING)]
        found = [job_id for line in lines for job_id in await redis.zrange(keys.waiting(line), 0, limit - 1)][:limit]
    return [job_id.decode() for job_id in found]


async def _suffixes(store: "JobStore", prefix: str) -> Any:
    async for key in store.redis.scan_iter(match=f"{prefix}*", count=1000):
        yield key.decode().removeprefix(prefix)


def _row(record: "JobRecord") -> dict[str, Any]:
    job = record.job
    return {
        "id": job.id,
        "state": record.state.value,
        "tenant": job.tenant,
        "user_id": job.user_id,
        "model": job.spec.model,
        "route": job.route,
        "accepted_ms": record.accepted_ms,
        "stage": record.stage.value if record.stage else None,
        "progress": record.progress,
        "attempts": len(record.attempts),
        "error": record.error_code,
    }


def _line(record: "JobRecord") -> str:
    age = time.time() - record.accepted_ms / 1000
    how = record.error_code or (f"{record.stage.value} {record.progress:.0%}" if record.stage else "")
    parts = (record.job.id, record.state.value, f"{age:.0f} s ago", record.job.tenant, record.job.spec.model, how)
    return "\t".join(parts)


def _fail(why: str) -> int:
    print(f"cogvideox-server queue: {why}", file=sys.stderr)
    return 1


ACTIONS: "dict[str, Callable[[JobStore, argparse.Namespace], Awaitable[int]]]" = {
    "status": _status,
    "list": _list,
    "show": _show,
    "cancel": _cancel,
    "retry": _retry,
    "pause": _pause,
    "resume": _pause,
}
