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
    from video_jobs.audit.ledger import Erasure
    from video_jobs.audit.office import AuditOffice
    from video_jobs.audit.search import Query
    from video_jobs.audit.verify import Report, Trust

ERASE_SECONDS = 120.0


def audit(args: argparse.Namespace) -> int:
    return asyncio.run(_act(args))


async def _act(args: argparse.Namespace) -> int:
    from redis.exceptions import RedisError

    try:
        async with _office(args) as office:
            return await ACTIONS[args.action](office, args)
    except RedisError as error:
        return _fail(f"Redis cannot be reached: {error}; --offline reads the exported files alone")
    except (OSError, ValueError, TimeoutError) as error:
        return _fail(str(error))


@contextlib.asynccontextmanager
async def _office(args: argparse.Namespace) -> "AsyncIterator[AuditOffice]":
    from video_jobs.audit.office import open_audit
    from video_jobs.queue import lazy_redis
    from video_jobs.settings import AuditSettings, QueueSettings, read_settings

    settings = read_settings(AuditSettings)
    settings = settings.model_copy(update={"state": args.state} if args.state else {})
    for path in getattr(args, "old_key", []):
        if not path.is_file():
            raise ValueError(f"{path} is not there")
    held = settings.audit_key_file or settings.master_key
    if not held.is_file():
        raise ValueError(f"{held} is not there: name the state folder, or COGVIDEOX_MASTER_KEY_FILE")
    named = read_settings(QueueSettings).redis_url.get_secret_value()
    redis = lazy_redis(find_redis(args.redis_url, settings.state) or named)
    try:
        yield open_audit(settings, redis)
    finally:
        await redis.aclose()


async def _verify(office: "AuditOffice", args: argparse.Namespace) -> int:
    """Every chain, the oldest first; exit 1 if anything is wrong."""
    from video_jobs.audit.reader import Trail
    from video_jobs.audit.verify import verify

    ledger, trust = None if args.offline else office.ledger, _trust(office, args)
    chains = await Trail(office.archive, ledger).chains()
    reports = [await verify(office.archive, ledger, chain, trust, args.first) for chain in chains]
    for report in reports:
        print(json.dumps(_told(report)) if args.json else _line(report))
    if not reports:
        print("the audit is empty", file=sys.stderr)
    return 1 if any(report.bad for report in reports) else 0


def _trust(office: "AuditOffice", args: argparse.Namespace) -> "Trust":
    """With public keys alone nothing secret is used, as an auditor would check."""
    from video_jobs.audit.office import older_keys
    from video_jobs.audit.verify import Trust

    anchors = dict(_anchor(text) for text in args.anchor)
    if args.public_key:
        return Trust([bytes.fromhex(text) for text in args.public_key], [], anchors)
    older, trust = older_keys(args.old_key), office.trust
    publics, marks = [key.public for key in older], [key.mark_key for key in older]
    return Trust(trust.public_keys + publics, trust.mark_keys + marks, anchors)


def _anchor(text: str) -> tuple[int, str]:
    seq, _, value = text.partition(":")
    if not seq.isdigit() or len(value) != 64:
        raise ValueError(f"{text} is not SEQ:HASH, as checkpoints have it")
    return int(seq), value


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


async def _search(office: "AuditOffice", args: argparse.Namespace) -> int:
    from video_jobs.audit.reader import Trail
    from video_jobs.audit.search import search
    from video_jobs.audit.sheet import AuditSheet
    from video_jobs.sheet import visible

    trail = Trail(office.archive, None if args.offline else office.ledger)
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


async def _erase(office: "AuditOffice", args: argparse.Namespace) -> int:
    """Asks the sealer, and is the sealer itself should no gateway be running."""
    from video_jobs.audit.ledger import Erasure

    if args.jobs:
        print(await _forget_jobs(office, args), file=sys.stderr)
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
    if not args.jobs and (held := await _count_jobs(office, args)):
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


async def _forget_jobs(office: "AuditOffice", args: argparse.Namespace) -> str:
    from video_jobs.results import open_results
    from video_jobs.settings import StoreSettings, read_settings
    from video_jobs.store import JobStore
    from video_jobs.sweeper import Sweeper

    settings = read_settings(StoreSettings)
    settings = settings.model_copy(update={"state": args.state} if args.state else {})
    sweeper = Sweeper(JobStore(office.ledger.redis), open_results(settings), 0)
    ended, open_ones = await sweeper.sweep_user(args.tenant, args.user)
    return f"forgot {ended} jobs and their videos" + (f"; {open_ones} have not ended" if open_ones else "")


async def _count_jobs(office: "AuditOffice", args: argparse.Namespace) -> int:
    from video_jobs.store import JobStore

    return len(await JobStore(office.ledger.redis).of_user(args.tenant, args.user))


async def _key(office: "AuditOffice", args: argparse.Namespace) -> int:
    print(office.key.public.hex())
    return 0


def moment(text: str | None, is_end: bool = False) -> int | None:
    """Milliseconds of a day or an instant, UTC if nothing else is said; the end of a day is the next one's start."""
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
        at = datetime.combine(day + timedelta(days=int(is_end)), time(), UTC)
    except ValueError:
        at = datetime.fromisoformat(text)
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return round(at.timestamp() * 1000)


def _fail(why: str) -> int:
    print(f"cogvideox-server audit: {why}", file=sys.stderr)
    return 1


ACTIONS: "dict[str, Callable[[AuditOffice, argparse.Namespace], Awaitable[int]]]" = {
    "verify": _verify,
    "search": _search,
    "erase": _erase,
    "key": _key,
}
