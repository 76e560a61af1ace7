"""`cogvideox-server keys`: make, import, list, roll and revoke API keys."""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from cogvideox_server.operator import note
from cogvideox_server.redis import find_redis

if TYPE_CHECKING:
    from server.grants import KeyTerms
    from server.keys import KeyRing
    from video_jobs.tenants import TenantBook


class CannotDo(Exception):
    """One line that says why."""


def keys(args: argparse.Namespace) -> int:
    return asyncio.run(_with_ring(ACTIONS[args.action], args))


async def _with_ring(
    act: "Callable[[KeyRing, TenantBook, argparse.Namespace], Awaitable[None]]", args: argparse.Namespace
) -> int:
    from redis.exceptions import RedisError

    from server.keys import KeyRing
    from server.settings import GatewaySettings
    from video_jobs.fragment import read_settings
    from video_jobs.links import secret_file
    from video_jobs.queue import lazy_redis
    from video_jobs.store import JobStore
    from video_jobs.tenants import TenantBook

    settings = read_settings(GatewaySettings, **({"state": args.state} if args.state else {}))
    redis = lazy_redis(find_redis(args.redis_url, settings.state) or settings.redis_url.get_secret_value())
    try:
        if args.action != "list":
            await note(redis, f"keys {args.action}", _about(args))
        older = map(secret_file, [*settings.old_key_files, *getattr(args, "old", [])])
        await act(KeyRing(redis, secret_file(settings.master_key), older), TenantBook(JobStore(redis)), args)
        return 0
    except (RedisError, OSError) as error:
        return _fail(f"Redis cannot be reached: {error}")
    except (CannotDo, ValueError) as error:
        return _fail(str(error))
    finally:
        await redis.aclose()


async def _create(ring: "KeyRing", book: "TenantBook", args: argparse.Namespace) -> None:
    terms = _terms(args)
    await _welcome(ring, book, args.tenant)
    whole = await ring.create(args.tenant, args.name, terms)
    await _made(book, whole)
    print(whole)
    print("Keep it: it is not shown again.", file=sys.stderr)


async def _import(ring: "KeyRing", book: "TenantBook", args: argparse.Namespace) -> None:
    """From stdin: what stands in a command line, any process of the machine can read."""
    terms = _terms(args)
    await _welcome(ring, book, args.tenant)
    for line in filter(None, map(str.strip, sys.stdin)):
        key_id = await ring.take_in(line, args.tenant, args.name, terms)
        await _made(book, key_id)
        print(key_id)


async def _list(ring: "KeyRing", _book: "TenantBook", args: argparse.Namespace) -> None:
    for key in await ring.list(args.tenant):
        shown = key.model_dump(mode="json", exclude={"secret", "is_tenant_open"}) | {"state": key.state}
        scopes = ",".join(sorted(key.terms.scopes))
        line = f"{key.id}\t{key.tenant}\t{key.name}\t{scopes}\t{key.state}"
        print(json.dumps(shown, ensure_ascii=False) if args.json else line)


async def _roll(ring: "KeyRing", book: "TenantBook", args: argparse.Namespace) -> None:
    whole = await ring.roll(args.id.partition(".")[0], args.overlap)
    if whole is None:
        raise CannotDo("no such key, or it does not work any more")
    await _made(book, whole)
    print(whole)
    print("Keep it: it is not shown again.", file=sys.stderr)


async def _revoke(ring: "KeyRing", _book: "TenantBook", args: argparse.Namespace) -> None:
    if not await ring.revoke(args.id.partition(".")[0]):
        raise CannotDo("no such key")
    print("revoked", file=sys.stderr)


async def _reseal(ring: "KeyRing", _book: "TenantBook", _args: argparse.Namespace) -> None:
    changed, lost = await ring.reseal()
    print(f"{changed} keys are sealed under the new master key", file=sys.stderr)
    if lost:
        raise CannotDo(f"no master key named here opens {', '.join(lost)}: name the older one too, or revoke them")


async def _welcome(ring: "KeyRing", book: "TenantBook", tenant: str) -> None:
    if await ring.is_elsewhere():
        print("The keys known here have another master key: is this the gateways' own --state?", file=sys.stderr)
    await book.welcome(tenant)


async def _made(book: "TenantBook", whole: str) -> None:
    """Which key it became: the call was on record before there was one."""
    await note(book.redis, "key made", whole.partition(".")[0])


def _about(args: argparse.Namespace) -> str:
    """What the command line named, for the audit; a key by its id."""
    left_out = ("command", "action", "state", "redis_url", "json")
    said = {name: value for name, value in vars(args).items() if value and name not in left_out}
    said |= {"id": args.id.partition(".")[0]} if "id" in said else {}
    return json.dumps(said, ensure_ascii=False, default=str)


def _terms(args: argparse.Namespace) -> "KeyTerms":
    from pydantic import ValidationError

    from server.grants import KeyTerms

    said = {"expires": args.expires, "models": args.model, "networks": args.network}
    try:
        return KeyTerms.model_validate(said | ({"scopes": args.scope} if args.scope else {}))
    except ValidationError as error:
        first = error.errors()[0]
        raise CannotDo(f"{first['loc'][0]}: {first['msg']}") from error


def _fail(why: str) -> int:
    print(f"cogvideox-server keys: {why}", file=sys.stderr)
    return 1


ACTIONS = {"create": _create, "import": _import, "list": _list, "roll": _roll, "revoke": _revoke, "reseal": _reseal}
