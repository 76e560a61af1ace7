"""Hours leave Redis for the store, content lies apart, and what one end user said can go."""

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from arq.connections import ArqRedis

from video_jobs import keys
from video_jobs.audit.archive import Archive
from video_jobs.audit.chain import SigningKey
from video_jobs.audit.ledger import Erasure, Ledger
from video_jobs.audit.reader import Trail
from video_jobs.audit.sealer import Sealer
from video_jobs.audit.search import Query, search
from video_jobs.audit.verify import Trust, verify
from video_jobs.results import FolderStore

Seal = Callable[..., Awaitable[None]]
HOUR_MS = 3_600_000


async def append(redis: ArqRedis, count: int, at_ms: int, user: str = "user-1") -> None:
    """Entries of another hour, as the scripts would have appended them then."""
    async with redis.pipeline() as pipe:
        for seq in [await redis.incr(keys.AUDIT_SEQ) for _ in range(count)]:
            entry = {"seq": seq, "at_ms": at_ms + seq, "event": "accepted", "tenant": "acme", "user_id": user}
            entry |= {"origin": json.dumps({"client": f"secret of {user}"}), "task_id": str(10**24 + seq)}
            pipe.rpush(keys.AUDIT, json.dumps(entry))
        await pipe.execute()


async def test_whole_hours_leave_redis_and_are_read_as_one_with_it(
    redis_client: ArqRedis, ledger: Ledger, archive: Archive, key: SigningKey, seal: Seal, folder: Path
) -> None:
    await append(redis_client, 30, 10 * HOUR_MS)
    await append(redis_client, 20, 11 * HOUR_MS, "user-2")
    await ledger.note({"event": "x", "tenant": "acme", "user_id": "user-1"})
    await seal()

    chain_id = (await ledger.state()).chain_id
    assert [(s.first, s.last, s.hour) for s in archive.segments(chain_id)] == [
        (1, 30, "19700101T10"),
        (31, 50, "19700101T11"),
    ]
    assert await redis_client.llen(keys.AUDIT_SEALED) == 1
    assert await redis_client.hlen(keys.AUDIT_CONTENT) == 0
    report = await verify(archive, ledger, chain_id, Trust([key.public], [key.mark_key]))
    assert (report.bad, report.records) == (None, 51)
    trail = Trail(archive, ledger)
    assert len([r async for r in search(trail, Query(user_id="user-1"))]) == 31
    assert len([r async for r in search(trail, Query(since_ms=11 * HOUR_MS, until_ms=12 * HOUR_MS))]) == 20
    files = list(folder.rglob("records/*.gz"))
    assert all("secret of" not in gzip.decompress(file.read_bytes()).decode() for file in files)


async def test_older_segments_may_be_given_away(
    redis_client: ArqRedis, ledger: Ledger, archive: Archive, key: SigningKey, seal: Seal
) -> None:
    for hour in (10, 11, 12):
        await append(redis_client, 10, hour * HOUR_MS)
        await seal()
    chain_id, trust = (await ledger.state()).chain_id, Trust([key.public], [key.mark_key])
    FolderStore.delete(archive._store, archive.segments(chain_id)[0].key)  # type: ignore[arg-type]

    missing = await verify(archive, ledger, chain_id, trust)
    rest = await verify(archive, ledger, chain_id, trust, first=11)

    assert missing.bad is not None
    assert missing.bad.seq == 1
    assert (rest.bad, rest.records) == (None, 20)


async def test_an_export_that_was_cut_off_is_done_again_by_the_next_sealer(
    redis_client: ArqRedis, ledger: Ledger, archive: Archive, key: SigningKey, new_sealer: Callable[..., Sealer]
) -> None:
    class Failing(Archive):
        def put_segment(self, *args: object) -> None:
            archive.put_segment(*args)  # type: ignore[arg-type]
            raise OSError("the store went away after the objects were written")

    await append(redis_client, 10, 10 * HOUR_MS)
    first, second = new_sealer(), new_sealer()
    first._exporter._archive = Failing(archive._store)
    turn = await first.work()
    assert turn is not None
    await _wait_until_planned(redis_client)
    await append(redis_client, 5, 10 * HOUR_MS)
    assert first._exporting is not None
    first._exporting.cancel()
    await redis_client.hset(keys.AUDIT_STATE, "until", 0)
    await second.work()
    await second.settle()

    chain_id = (await ledger.state()).chain_id
    assert [(s.first, s.last) for s in archive.segments(chain_id)] == [(1, 10), (11, 15)]
    report = await verify(archive, ledger, chain_id, Trust([key.public], [key.mark_key]))
    assert (report.bad, report.records) == (None, 15)


async def _wait_until_planned(redis: ArqRedis) -> None:
    while not await redis.hget(keys.AUDIT_STATE, "planned"):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)


async def test_erasing_one_end_user_leaves_the_chain_valid(
    redis_client: ArqRedis, ledger: Ledger, archive: Archive, key: SigningKey, seal: Seal, folder: Path
) -> None:
    await append(redis_client, 10, 10 * HOUR_MS)
    await append(redis_client, 10, 10 * HOUR_MS, "user-2")
    await seal()
    note = {"event": "x", "tenant": "acme", "user_id": "user-1", "client": "secret of user-1"}
    await ledger.note(note)
    await ledger.ask_to_erase(Erasure(id="1", tenant="acme", user_id="user-1", by="operator"))
    await seal()
    await seal()

    assert await ledger.erasures() == []
    held = b"".join(gzip.decompress(file.read_bytes()) for file in folder.rglob("*.gz"))
    held += str(await redis_client.hgetall(keys.AUDIT_CONTENT)).encode()
    assert b"secret of user-1" not in held
    assert b"secret of user-2" in held
    report = await verify(archive, ledger, (await ledger.state()).chain_id, Trust([key.public], [key.mark_key]))
    assert (report.bad, report.erased, report.records) == (None, 11, 22)
    records = [r async for r in search(Trail(archive, ledger), Query(user_id="user-1"))]
    assert [record["event"] for record in records][-1] == "content erased"
    assert not any("client" in record for record in records)


async def test_damaged_content_keeps_its_own_erasure_waiting_and_no_other(
    redis_client: ArqRedis, ledger: Ledger, archive: Archive, folder: Path, seal: Seal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("video_jobs.audit.sealer.STORE_PAUSE_SECONDS", 0)
    for hour in (10, 11):
        await append(redis_client, 10, hour * HOUR_MS)
        await seal()
    damaged, sound = sorted(folder.rglob("content/*/*.gz"))
    damaged.write_bytes(damaged.read_bytes()[:-9])
    for number, user in enumerate(("user-1", "user-2")):
        tenant = "acme" if user == "user-1" else "globex"
        await ledger.ask_to_erase(Erasure(id=str(number), tenant=tenant, user_id=user, by="operator"))
    await seal()

    assert [wish.user_id for wish in await ledger.erasures()] == ["user-1"]
    assert damaged.exists()
    assert not sound.exists()
    damaged.unlink()
    await seal()
    assert await ledger.erasures() == []


async def test_altered_content_is_never_shown_as_what_was_sealed(
    redis_client: ArqRedis, ledger: Ledger, archive: Archive, folder: Path, seal: Seal
) -> None:
    await append(redis_client, 2, 10 * HOUR_MS)
    await seal()
    (file,) = folder.rglob("content/*/*.gz")
    lines = gzip.decompress(file.read_bytes()).replace(b"secret of user-1", b"forged", 1)
    file.write_bytes(gzip.compress(lines.replace(b'"client"', b'"event"', 1)))

    records = [record async for record in search(Trail(archive, ledger), Query())]

    assert [(record["event"], record.get("altered")) for record in records[:2]] == [
        ("accepted", "content"),
        ("accepted", None),
    ]
    assert records[1]["client"] == "secret of user-1"


async def test_a_redis_that_lost_its_audit_begins_another_chain(
    redis_client: ArqRedis, ledger: Ledger, archive: Archive, key: SigningKey, seal: Seal
) -> None:
    await append(redis_client, 5, 10 * HOUR_MS)
    await seal()
    await redis_client.flushall()
    await ledger.note({"event": "x"})
    await seal()

    trust = Trust([key.public], [key.mark_key])
    reports = [await verify(archive, ledger, chain, trust) for chain in await Trail(archive, ledger).chains()]

    assert [(report.bad, report.records) for report in reports] == [(None, 5), (None, 1)]


async def test_reading_is_never_misled_by_a_sealer_at_work(
    redis_client: ArqRedis, ledger: Ledger, archive: Archive, key: SigningKey, new_sealer: Callable[..., Sealer]
) -> None:
    sealer, is_over = new_sealer(checkpoint_s=0, backlog=60), asyncio.Event()

    async def write() -> None:
        for number in range(600):
            await ledger.note(
                {"event": "x", "tenant": "acme", "user_id": "user-1", "client": f"192.0.2.{number % 250}"}
            )
            if number % 7 == 0:
                await sealer.work()
        await sealer.settle()
        is_over.set()

    await ledger.note({"event": "first"})
    await sealer.work()
    chain_id, trust = (await ledger.state()).chain_id, Trust([key.public], [key.mark_key])
    writing, reads = asyncio.create_task(write()), 0
    while not is_over.is_set():
        report = await verify(archive, ledger, chain_id, trust)
        assert (report.bad, report.erased) == (None, 0)
        found = [r["seq"] async for r in search(Trail(archive, ledger), Query(), with_content=False)]
        assert found == list(range(1, len(found) + 1)), "every record once, in order"
        reads += 1
    await writing

    assert reads >= 5
    assert len(archive.segments(chain_id)) > 3
