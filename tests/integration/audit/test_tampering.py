"""Whoever can write to the store and to Redis, but has not the key, changes nothing unseen: every change is located."""

import asyncio
import gzip
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis
from arq.connections import ArqRedis

from video_jobs import keys
from video_jobs.audit.archive import Archive
from video_jobs.audit.chain import SigningKey, is_checkpoint, read_line, step
from video_jobs.audit.ledger import Ledger
from video_jobs.audit.reader import Trail
from video_jobs.audit.search import Query, search
from video_jobs.audit.verify import Trust, verify

HOUR_MS = 3_600_000
Seal = Callable[..., Awaitable[None]]


async def build(client: ArqRedis, seal: Seal, ledger: Ledger, records: int, per_hour: int) -> None:
    """A chain of many hours, the last of which is still in Redis; every third record has content."""
    now_hour = int((await client.time())[0]) // 3600
    hours = (records - 1) // per_hour
    for start in range(1, records + 1, per_hour):
        at_ms = (now_hour - hours + (start - 1) // per_hour) * HOUR_MS
        async with client.pipeline() as pipe:
            for seq in range(start, min(start + per_hour, records + 1)):
                entry = {"seq": seq, "at_ms": at_ms + seq % 3000, "event": "accepted", "tenant": f"tenant-{seq % 7}"}
                entry |= {"user_id": f"user-{seq % 50}", "task_id": str(10**24 + seq), "detail": "d" * (seq % 90)}
                entry |= {"key_id": "cvx-0123456789abcdef", "model": "cogvideox-2", "request_id": f"request-{seq}"}
                if seq % 3 == 0:
                    entry["origin"] = json.dumps({"client": "192.0.2.1", "user_agent": "python-httpx/0.28.1"})
                pipe.rpush(keys.AUDIT, json.dumps(entry))
            await pipe.execute()
    await client.set(keys.AUDIT_SEQ, records)
    await seal()
    assert (await ledger.state()).exported == records - (records - 1) % per_hour - 1


@dataclass
class Place:
    """Where a stretch of the chain lies, and how it is written back: an object of the store, or Redis's list."""

    first: int
    lines: list[bytes]
    write: Callable[[list[bytes]], None]
    rest: list[bytes] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.first + len(self.lines) - 1


class Chain:
    """The whole chain as an intruder sees it."""

    def __init__(self, folder: Path, socket: Path) -> None:
        self._redis = redis.Redis(unix_socket_path=str(socket))
        self.places = [self._segment(path) for path in sorted(folder.rglob("records/*.gz"))]
        lines = self._redis.lrange(keys.AUDIT_SEALED, 0, -1)
        self.places.append(Place(self.places[-1].last + 1, lines, self._to_redis))
        self.contents = sorted(folder.rglob("content/*/*.gz"))

    def close(self) -> None:
        self._redis.close()

    def at(self, seq: int) -> Place:
        return next(place for place in self.places if place.first <= seq <= place.last)

    def _segment(self, path: Path) -> Place:
        lines = gzip.decompress(path.read_bytes()).splitlines()
        records = [line for line in lines if not is_checkpoint(line)]
        rest = [line for line in lines if is_checkpoint(line)]
        first = int(path.name.split("-")[0])

        def write(changed: list[bytes]) -> None:
            path.write_bytes(gzip.compress(b"\n".join([*changed, *rest]), 1))

        return Place(first, records, write, rest)

    def _to_redis(self, lines: list[bytes]) -> None:
        with self._redis.pipeline() as pipe:
            pipe.delete(keys.AUDIT_SEALED)
            for start in range(0, len(lines), 5000):
                pipe.rpush(keys.AUDIT_SEALED, *lines[start : start + 5000])
            pipe.execute()


Tamper = Callable[[random.Random, Chain], tuple[int, Callable[[], None]]]


def tamper_edit(dice: random.Random, chain: Chain) -> tuple[int, Callable[[], None]]:
    """One byte of a record, of its hash or of its mark is another."""
    place, index = pick(dice, chain)
    line = bytearray(place.lines[index])
    at = dice.randrange(len(line))
    line[at] = dice.choice([byte for byte in b"0123456789abcdefghijklmnopqrstuvwxyz" if byte != line[at]])
    return put(place, index, [*place.lines[:index], bytes(line), *place.lines[index + 1 :]])


def tamper_delete(dice: random.Random, chain: Chain) -> tuple[int, Callable[[], None]]:
    place, index = pick(dice, chain)
    return put(place, index, place.lines[:index] + place.lines[index + dice.randint(1, 9) :])


def tamper_reorder(dice: random.Random, chain: Chain) -> tuple[int, Callable[[], None]]:
    place, index = pick(dice, chain, spare=1)
    other = dice.randrange(index + 1, len(place.lines))
    lines = list(place.lines)
    lines[index], lines[other] = lines[other], lines[index]
    return put(place, index, lines)


def tamper_insert(dice: random.Random, chain: Chain) -> tuple[int, Callable[[], None]]:
    """A record of another place, or a forged one with the right number."""
    place, index = pick(dice, chain)
    foreign = dice.choice([line for line in dice.choice(chain.places).lines if line != place.lines[index]])
    if dice.random() < 0.5:
        foreign = place.lines[index].replace(b'"event":"accepted"', b'"event":"claimed"')
    return put(place, index, [*place.lines[:index], foreign, *place.lines[index:]])


def tamper_truncate(dice: random.Random, chain: Chain) -> tuple[int, Callable[[], None]]:
    place, index = pick(dice, chain)
    return put(place, index, place.lines[:index])


def tamper_rebuild(dice: random.Random, chain: Chain) -> tuple[int, Callable[[], None]]:
    """A record is edited and every hash after it, to the end of its place, computed anew: what needs no key."""
    place, index = pick(dice, chain)
    lines, before = list(place.lines), previous(chain, place, index)
    for at in range(index, len(lines)):
        link = read_line(lines[at])
        assert link is not None
        record = link.record if at > index else link.record.replace(b'"event":"accepted"', b'"event":"claimed"')
        before = step(before, record)
        lines[at] = b'{"chain":"%s","mark":"%s","record":%s}' % (before.hex().encode(), link.mark, record)
    return put(place, index, lines)


def tamper_content(dice: random.Random, chain: Chain) -> tuple[int, Callable[[], None]]:
    """One end user's words are put into another mouth."""
    path = dice.choice(chain.contents)
    kept = path.read_bytes()
    contents = [json.loads(line) for line in gzip.decompress(kept).splitlines()]
    chosen = dice.choice(contents)
    chosen["said"]["client"] = "198.51.100.9"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, contents)).encode()))
    return chosen["seq"], lambda: path.write_bytes(kept) and None


def tamper_remove_object(dice: random.Random, chain: Chain) -> tuple[int, Callable[[], None]]:
    place = dice.choice(chain.places[:-1])
    return put(place, 0, [])


TAMPERS: list[Tamper] = [
    *(tamper_edit, tamper_delete, tamper_reorder, tamper_insert, tamper_truncate, tamper_rebuild, tamper_content),
    tamper_remove_object,
]


def pick(dice: random.Random, chain: Chain, spare: int = 0) -> tuple[Place, int]:
    seq = dice.randint(1, chain.places[-1].last)
    place = chain.at(seq)
    return place, min(seq - place.first, len(place.lines) - 1 - spare)


def put(place: Place, index: int, lines: list[bytes]) -> tuple[int, Callable[[], None]]:
    place.write(lines)
    return place.first + index, lambda: place.write(place.lines)


def previous(chain: Chain, place: Place, index: int) -> bytes:
    if place.first + index == 1:
        return bytes(32)
    before = chain.at(place.first + index - 1)
    link = read_line(before.lines[place.first + index - 1 - before.first])
    assert link is not None
    return bytes.fromhex(link.chain.decode())


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("records", "per_hour", "tamperings"),
    [
        (300, 60, 50),
        pytest.param(2000, 300, 1000, marks=pytest.mark.long),
        pytest.param(100_000, 9000, 20, marks=pytest.mark.long),
    ],
)
async def test_every_tampering_is_found_and_located(
    records: int,
    per_hour: int,
    tamperings: int,
    redis_client: ArqRedis,
    redis_socket: Path,
    folder: Path,
    ledger: Ledger,
    archive: Archive,
    key: SigningKey,
    seal: Seal,
) -> None:
    await build(redis_client, seal, ledger, records, per_hour)
    chain_id, trust = (await ledger.state()).chain_id, Trust([key.public], [key.mark_key])
    started = time.process_time()
    whole = await verify(archive, ledger, chain_id, trust)
    verify_s = time.process_time() - started
    assert (whole.bad, whole.records) == (None, records)
    started = time.process_time()
    found = [record async for record in search(Trail(archive, ledger), Query(user_id="user-7"))]
    search_s = time.process_time() - started
    assert len(found) == records // 50
    speeds = [f"{records / seconds:,.0f}" for seconds in (verify_s, search_s, whole.seconds)]
    print(f"\n{records} records: verify {speeds[0]} a CPU second, search {speeds[1]}; verify {speeds[2]} by the clock")

    dice, chain = random.Random(records), Chain(folder, redis_socket)
    for number in range(tamperings):
        tamper = TAMPERS[number % len(TAMPERS)]
        seq, undo = await asyncio.to_thread(tamper, dice, chain)
        report = await verify(archive, ledger, chain_id, trust)
        assert report.bad is not None, f"{tamper.__name__} at {seq} was not found"
        assert report.bad.seq == seq, f"{tamper.__name__} at {seq}: {report.bad}"
        await asyncio.to_thread(undo)
    assert (await verify(archive, ledger, chain_id, trust)).bad is None
    chain.close()


async def test_without_the_key_file_a_rebuilt_chain_is_found_by_its_checkpoints(
    redis_client: ArqRedis,
    redis_socket: Path,
    folder: Path,
    ledger: Ledger,
    archive: Archive,
    key: SigningKey,
    seal: Seal,
) -> None:
    await build(redis_client, seal, ledger, 1000, 300)
    chain_id, trust = (await ledger.state()).chain_id, Trust([key.public], [])
    dice, chain = random.Random(1), Chain(folder, redis_socket)
    for _ in range(50):
        seq, undo = await asyncio.to_thread(tamper_rebuild, dice, chain)
        bad = (await verify(archive, ledger, chain_id, trust)).bad
        assert bad is not None
        # The first record that no good checkpoint covers: the change lies there or after.
        assert bad.seq <= seq or bad.seq == chain.at(seq).last + 1
        await asyncio.to_thread(undo)
    chain.close()


async def test_a_checkpoint_that_is_not_ours_or_is_gone_is_noticed(
    redis_client: ArqRedis,
    redis_socket: Path,
    folder: Path,
    ledger: Ledger,
    archive: Archive,
    key: SigningKey,
    seal: Seal,
) -> None:
    await build(redis_client, seal, ledger, 1000, 300)
    chain_id, trust = (await ledger.state()).chain_id, Trust([key.public], [key.mark_key])
    path = sorted(folder.rglob("records/*.gz"))[1]
    kept = path.read_bytes()
    lines = gzip.decompress(kept).splitlines()
    forged = SigningKey(b"x" * 32).sign(chain_id, 600, "ab" * 32, 1).line()
    for changed in (lines[:-1], [*lines[:-1], forged], [*lines[:-1], b'{"checkpoint":{}}']):
        path.write_bytes(gzip.compress(b"\n".join(changed)))
        bad = (await verify(archive, ledger, chain_id, trust)).bad
        assert bad is not None
        assert 1 <= bad.seq <= 601
    path.write_bytes(kept)

    anchored = Trust([key.public], [key.mark_key], {600: "cd" * 32})
    assert (await verify(archive, ledger, chain_id, anchored)).bad is not None
    assert (await verify(archive, None, chain_id, Trust([key.public], [], {1001: ""}))).bad is not None
