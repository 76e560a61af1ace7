"""`cogvideox-server audit`: check the trail, search it, and erase what it holds about one end user."""

import argparse
import asyncio
import contextlib
import json
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from cogvideox_server.operator import operator
from cogvideox_server.redis import find_redis

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from video_jobs.audit.archive import Archive
    from video_jobs.audit.ledger import Erasure, Ledger
    from video_jobs.audit.office import AuditOffice
    from video_jobs.audit.search import Query
    from video_jobs.audit.verify import Report, Trust
    from video_jobs.settings import AuditSettings

ERASE_SECONDS, DAY_SECONDS = 120.0, 86_400


def audit(args: argparse.Namespace) -> int:
    return asyncio.run(_act(args))


async def _act(args: argparse.Namespace) -> int:
    from redis.exceptions import RedisError

    try:
        async with _opened(args) as (settings, redis):
            return await ACTIONS[args.action](settings, redis, args)
    except RedisError as error:
        return _fail(f"Redis cannot be reached: {error}; --offline reads the exported files alone")
    except (OSError, ValueError, OverflowError) as error:
        return _fail(str(error))


@contextlib.asynccontextmanager
async def _opened(args: argparse.Namespace) -> "AsyncIterator[tuple[AuditSettings, Redis]]":
    from video_jobs.fragment import read_settings
    from video_jobs.queue import lazy_redis
    from video_jobs.settings import AuditSettings, QueueSettings

    settings = read_settings(AuditSettings)
    settings = settings.model_copy(update={"state": args.state} if args.state else {})
    named = read_settings(QueueSettings).redis_url.get_secret_value()
    redis = lazy_redis(find_redis(args.redis_url, settings.state) or named)
    try:
        yield settings, redis
    finally:
        await redis.aclose()


def _office(settings: "AuditSettings", redis: "Redis") -> "AuditOffice":
    """With the key that seals: a machine without it must not make another one."""
    from video_jobs.audit.office import open_audit

    held = settings.audit_key_file or settings.master_key
    if not held.is_file():
        raise ValueError(f"{held} is not there: name the state folder, or COGVIDEOX_MASTER_KEY_FILE")
    return open_audit(settings, redis)


def _trail(settings: "AuditSettings", redis: "Redis", args: argparse.Namespace) -> "tuple[Archive, Ledger | None]":
    """What is read needs no key."""
    from video_jobs.audit.archive import open_archive
    from video_jobs.audit.ledger import Ledger

    return open_archive(settings), None if args.offline else Ledger(redis)


async def _verify(settings: "AuditSettings", redis: "Redis", args: argparse.Namespace) -> int:
    """Every chain, the oldest first; exit 1 if anything is wrong."""
    from video_jobs.audit.reader import Trail
    from video_jobs.audit.verify import Bad, Report, verify

    (archive, ledger), trust = _trail(settings, redis, args), _trust(settings, redis, args)
    anchors = [_anchor(text) for text in args.anchor]
    chains = await Trail(archive, ledger).chains()
    gone = sorted({chain for chain, _, _ in anchors if chain} - set(chains))
    reports = [Report(chain, 0, 0, None, 0, Bad(args.first, "the whole chain is gone")) for chain in gone]
    for chain in chains:
        kept = {seq: value for named, seq, value in anchors if named in ("", chain)}
        reports.append(await verify(archive, ledger, chain, trust._replace(anchors=kept), args.first))
    for report in reports:
        print(json.dumps(_told(report)) if args.json else _line(report))
    if not reports:
        print("the audit is empty", file=sys.stderr)
    return 1 if any(report.bad for report in reports) else 0


def _trust(settings: "AuditSettings", redis: "Redis", args: argparse.Namespace) -> "Trust":
    """With public keys alone nothing secret is used, as an auditor would check."""
    from video_jobs.audit.office import older_keys
    from video_jobs.audit.verify import Trust

    if args.public_key:
        return Trust([bytes.fromhex(text) for text in args.public_key], [])
    for path in args.old_key:
        if not path.is_file():
            raise ValueError(f"{path} is not there")
    older, trust = older_keys(args.old_key), _office(settings, redis).trust
    publics, marks = [key.public for key in older], [key.mark_key for key in older]
    return Trust(trust.public_keys + publics, trust.mark_keys + marks)


def _anchor(text: str) -> tuple[str, int, str]:
    """Of which chain, or of any; which record; the chain's value there."""
    chain, _, rest = text.rpartition(":")[0].rpartition(":")
    value = text.rpartition(":")[2]
    if not (rest.isascii() and rest.isdigit()) or len(value) != 64:
        raise ValueError(f"{text} is not CHAIN:SEQ:HASH or SEQ:HASH, as checkpoints have it")
    return chain, int(rest), value


def _told(report: "Report") -> dict[str, object]:
    return {
        "chain_id": report.chain_id,
        "ok": report.bad is None,
        "records": report.records,
        "erased": report.erased,
        "signed": report.signed.checkpoint.model_dump() if report.signed else None,
        "first_bad_record": report.bad.seq if report.bad else None,
        "why": report.bad.why if report.bad else None,
        "seconds": round(report.seconds, 3),
    }


def _line(report: "Report") -> str:
    if report.bad:
        return f"{report.chain_id}: BAD at record {report.bad.seq}: {report.bad.why}"
    signed = report.signed.checkpoint if report.signed else None
    at = datetime.fromtimestamp(signed.at_ms / 1000, UTC).isoformat(timespec="seconds") if signed else ""
    proof = f"signed to record {signed.seq} at {at}" if signed else "no checkpoint yet"
    return f"{report.chain_id}: {report.records} records are whole; {proof}; content of {report.erased} is erased"


async def _search(settings: "AuditSettings", redis: "Redis", args: argparse.Namespace) -> int:
    from video_jobs.audit.reader import Trail
    from video_jobs.audit.search import search
    from video_jobs.audit.sheet import AuditSheet
    from video_jobs.sheet import visible

    trail = Trail(*_trail(settings, redis, args))
    sheet = AuditSheet(sys.stdout) if args.csv else None
    async for record in search(trail, _query(args)):
        if sheet:
            sheet.add(record)
        else:
            print(visible(json.dumps(record, ensure_ascii=False)))
    return 0


def _query(args: argparse.Namespace) -> "Query":
    from video_jobs.audit.search import Query

    named = {"tenant": args.tenant, "user_id": args.user, "task_id": args.task, "event": args.event}
    times = {"since_ms": moment(args.since), "until_ms": moment(args.until, is_end=True)}
    return Query.model_validate({name: value for name, value in (named | times).items() if value is not None})


async def _erase(settings: "AuditSettings", redis: "Redis", args: argparse.Namespace) -> int:
    """Asks the sealer, and is the sealer itself should no gateway be running."""
    from video_jobs.audit.ledger import Erasure

    office = _office(settings, redis)
    if args.jobs:
        print(await _forget_jobs(settings, redis, args), file=sys.stderr)
    wanted = Erasure(id=secrets.token_hex(8), tenant=args.tenant, user_id=args.user, by=operator())
    await office.ledger.ask_to_erase(wanted)
    try:
        async with asyncio.timeout(ERASE_SECONDS):
            while not (told := await _erased(office, wanted)):
                await office.sealer.work()
                await office.sealer.settle()
                await asyncio.sleep(0.2)
    except TimeoutError as exc:
        raise ValueError(f"not done in {ERASE_SECONDS:.0f} s, and still wanted: the gateways' logs say why") from exc
    print(f"erased the content of {told} about {args.user} of {args.tenant}; the records stay", file=sys.stderr)
    if not args.jobs and (held := await _count_jobs(redis, args)):
        print(f"{held} jobs of theirs still hold their prompt; --jobs ends that for those that ended", file=sys.stderr)
    return 0


async def _erased(office: "AuditOffice", wanted: "Erasure") -> str:
    """How many records the erasure found, once that is on record."""
    from video_jobs.audit.search import Query, search

    if wanted in await office.ledger.erasures():
        return ""
    lately = round((datetime.now(UTC) - timedelta(days=1)).timestamp() * 1000)
    query = Query(tenant=wanted.tenant, user_id=wanted.user_id, event="content erased", since_ms=lately)
    async with contextlib.aclosing(search(office.trail, query, with_content=False)) as records:
        return "".join([str(record["detail"]) async for record in records if record.get("erasure") == wanted.id])


async def _forget_jobs(settings: "AuditSettings", redis: "Redis", args: argparse.Namespace) -> str:
    from video_jobs.results import open_results
    from video_jobs.store import JobStore
    from video_jobs.sweeper import Sweeper

    ended, left = await Sweeper(JobStore(redis), open_results(settings), 0).sweep_user(args.tenant, args.user)
    return f"forgot {ended} jobs and their videos" + (f"; {left} have not ended" if left else "")


async def _count_jobs(redis: "Redis", args: argparse.Namespace) -> int:
    from video_jobs.store import JobStore

    return len(await JobStore(redis).of_user(args.tenant, args.user))


async def _key(settings: "AuditSettings", redis: "Redis", args: argparse.Namespace) -> int:
    print(_office(settings, redis).key.public.hex())
    return 0


def moment(text: str | None, is_end: bool = False) -> int | None:
    """Milliseconds of a day or an instant, UTC if nothing else is said; the end of a day is the next one's start."""
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
        at = datetime.combine(day, time(), UTC)
        return round(at.timestamp() + DAY_SECONDS * is_end) * 1000
    except ValueError:
        at = datetime.fromisoformat(text)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return round(at.timestamp() * 1000)


def _fail(why: str) -> int:
    print(f"cogvideox-server audit: {why}", file=sys.stderr)
    return 1


ACTIONS: "dict[str, Callable[[AuditSettings, Redis, argparse.Namespace], Awaitable[int]]]" = {
    "verify": _verify,
    "search": _search,
    "erase": _erase,
    "key": _key,
}
