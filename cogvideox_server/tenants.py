"""`cogvideox-server tenants`: tenants, plans, their limits, and what they used."""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from cogvideox_server.keys import CannotDo
from cogvideox_server.operator import note
from cogvideox_server.redis import find_redis

if TYPE_CHECKING:
    from video_jobs.limits import Terms
    from video_jobs.tenants import TenantBook


def tenants(args: argparse.Namespace) -> int:
    return asyncio.run(_with_book(ACTIONS[args.action], args))


async def _with_book(
    act: "Callable[[TenantBook, argparse.Namespace], Awaitable[None]]", args: argparse.Namespace
) -> int:
    from redis.exceptions import RedisError

    from video_jobs.fragment import read_settings
    from video_jobs.queue import lazy_redis
    from video_jobs.settings import QueueSettings, StoreSettings
    from video_jobs.store import JobStore
    from video_jobs.tenants import TenantBook

    state = args.state or read_settings(StoreSettings).state
    named = read_settings(QueueSettings).redis_url.get_secret_value()
    redis = lazy_redis(find_redis(args.redis_url, state) or named)
    try:
        if args.action in CHANGES:
            await note(redis, f"tenants {args.action}", _about(args))
        await act(TenantBook(JobStore(redis)), args)
        return 0
    except RedisError as error:
        return _fail(f"Redis cannot be reached: {error}")
    except (CannotDo, OSError, ValueError) as error:
        return _fail(" ".join(str(error).split()))
    finally:
        await redis.aclose()


async def _list(book: "TenantBook", args: argparse.Namespace) -> None:
    found = await book.tenants()
    if args.json:
        print(json.dumps({name: tenant.model_dump(exclude_unset=True) for name, tenant in found.items()}))
        return
    for name, tenant in found.items():
        open_now = await book.standing(name)
        now = f"{open_now['queued']} queued\t{open_now['running']} running"
        print(f"{name}\t{tenant.plan}\t{'on' if tenant.enabled else 'off'}\t{now}\t{tenant.title}")


async def _plans(book: "TenantBook", args: argparse.Namespace) -> None:
    found = {name: plan.model_dump(exclude_unset=True) for name, plan in (await book.plans()).items()}
    if args.json:
        print(json.dumps(found))
        return
    for name, plan in found.items():
        print(f"{name}\t{json.dumps(plan)}")


async def _show(book: "TenantBook", args: argparse.Namespace) -> None:
    own = await book.tenant(args.name)
    if own is None:
        raise CannotDo(f"there is no tenant {args.name}")
    terms = (await book.terms(args.name)).model_dump(exclude_none=True)
    told = {"own": own.model_dump(exclude_unset=True), "terms": terms, "standing": await book.standing(args.name)}
    print(json.dumps(told, ensure_ascii=False, indent=2))


async def _set(book: "TenantBook", args: argparse.Namespace) -> None:
    from video_jobs.limits import Tenant

    tenant = _changed(await book.tenant(args.name) or Tenant(), args, ("plan", "title", "enabled"))
    if tenant.plan != "default" and await book.plan(tenant.plan) is None:
        raise CannotDo(f"there is no plan {tenant.plan}")
    print("changed" if await book.put_tenant(args.name, tenant) else "as it was", file=sys.stderr)


async def _plan(book: "TenantBook", args: argparse.Namespace) -> None:
    from video_jobs.limits import Terms

    plan = _changed(await book.plan(args.name) or Terms(), args, ())
    print("changed" if await book.put_plan(args.name, plan) else "as it was", file=sys.stderr)


async def _apply(book: "TenantBook", args: argparse.Namespace) -> None:
    from video_jobs.declared import apply, parse

    declared = parse(args.file.read_bytes())
    for line in [] if args.check else await apply(declared, book):
        print(line)


async def _usage(book: "TenantBook", args: argparse.Namespace) -> None:
    from video_jobs.sheet import write_csv
    from video_jobs.usage import GROUPS, METRICS, UsageBook

    groups = tuple(args.by.split(",")) if args.by else GROUPS
    if not set(groups) <= set(GROUPS):
        raise CannotDo(f"--by takes {','.join(GROUPS)}")
    rows = await UsageBook(book.redis).read(args.since, args.until, args.tenant, args.user, groups)
    if args.csv:
        write_csv(sys.stdout, [*groups, *METRICS], rows)
        return
    for row in rows:
        print(json.dumps(row, ensure_ascii=False))


def _changed(known: "Terms", args: argparse.Namespace, more: tuple[str, ...]) -> Any:
    """The terms with what the command line names; a limit of `plan` is not the tenant's own any more."""
    from pydantic import ValidationError

    said: dict[str, Any] = known.model_dump(exclude_unset=True)
    named = {name: getattr(args, name) for name in ("weight", "service_class", *more)}
    said |= {name: value for name, value in named.items() if value is not None}
    limits = dict(said.get("limits", {}))
    for name, _, number in (item.partition("=") for item in args.limit):
        limits.pop(name, None)
        if number != "plan":
            limits[name] = None if number == "none" else number
    try:
        return type(known).model_validate(said | {"limits": limits})
    except ValidationError as error:
        first = error.errors()[0]
        raise CannotDo(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _about(args: argparse.Namespace) -> str:
    """What the command line named, for the audit."""
    left_out = ("command", "action", "state", "redis_url")
    return json.dumps(
        {name: value for name, value in vars(args).items() if value and name not in left_out}, default=str
    )


def _fail(why: str) -> int:
    print(f"cogvideox-server tenants: {why}", file=sys.stderr)
    return 1


CHANGES = ("set", "plan", "apply")
ACTIONS = {
    "list": _list,
    "plans": _plans,
    "show": _show,
    "set": _set,
    "plan": _plan,
    "apply": _apply,
    "usage": _usage,
}
