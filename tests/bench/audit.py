"""`make prove-audit`: the audit's speed, and a flood of strangers at full size. `--write` keeps the table."""

import asyncio
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from cogvideox_server.redis import redis_binary, redis_command, socket_path
from tests.gateway import Gateway
from video_jobs.audit.archive import Archive, new_segment
from video_jobs.audit.chain import GENESIS, SigningKey
from video_jobs.audit.content import PromptForm
from video_jobs.audit.entries import Place, shape
from video_jobs.audit.office import open_audit
from video_jobs.audit.reader import Trail
from video_jobs.audit.search import Query, search
from video_jobs.audit.verify import Trust, verify
from video_jobs.policy.words import Matcher
from video_jobs.queue import lazy_redis
from video_jobs.results import FolderStore
from video_jobs.settings import AuditSettings

RECORDS, PER_SEGMENT, STRANGERS, CONNECTIONS, TRIES = 100_000, 20_000, 100_000, 32, 7
BODY = {"model": "cogvideox-2", "prompt": "a red ball", "size": "720x480"}
Rows = list[tuple[str, str, str]]


class Clock:
    """Seconds by the clock and of this process's CPU, which other work on the machine leaves alone."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def spent(self) -> tuple[float, float]:
        return time.perf_counter() - self._wall, time.process_time() - self._cpu

    def per_second(self, count: int) -> str:
        return _speed(count, *self.spent())


def _speed(count: int, wall: float, cpu: float) -> str:
    return f"{count / wall:,.0f} a second, {count / cpu:,.0f} a CPU second"


def _speeds(count: int, spent: list[tuple[float, float]]) -> str:
    """The fastest and the middle one: the others had to share the core for longer."""
    fastest, middle = sorted(spent)[0], sorted(spent)[len(spent) // 2]
    return f"{_speed(count, *fastest)}; by the clock in the middle {count / middle[0]:,.0f}"


def build(archive: Archive, key: SigningKey) -> None:
    head, boundary = GENESIS, []
    for start in range(1, RECORDS + 1, PER_SEGMENT):
        lines, contents = [], []
        for seq in range(start, start + PER_SEGMENT):
            entry: dict[str, object] = {"seq": seq, "at_ms": 1_790_000_000_000 + seq * 100, "event": "accepted"}
            entry |= {"tenant": f"tenant-{seq % 7}", "user_id": f"user-{seq % 50}", "task_id": str(10**24 + seq)}
            entry |= {"key_id": "cvx-0123456789abcdef", "model": "cogvideox-2", "detail": "d" * (seq % 90)}
            if seq % 3 == 0:
                entry["origin"] = json.dumps({"client": "192.0.2.1", "user_agent": "python-httpx/0.28.1"})
            record, content = shape(json.dumps(entry).encode(), PromptForm.KEPT, b"", Place(seq, 0))
            line, head = key.seal(head, record)
            lines.append(line)
            contents += [content] if content else []
        signed = key.sign("bench", start + PER_SEGMENT - 1, head.hex(), 0).line()
        segment = new_segment("bench", start, start + PER_SEGMENT - 1, 1_790_000_000_000 + start * 100)
        archive.put_segment(segment, [*boundary, *lines, signed], contents)
        boundary = [signed]


async def speeds(folder: Path) -> Rows:
    archive, key = Archive(FolderStore(folder)), SigningKey(b"k" * 32)
    clock = Clock()
    await asyncio.to_thread(build, archive, key)
    rows = [(f"shape, seal and export {RECORDS:,} records", clock.per_second(RECORDS), "")]
    spent = []
    for _ in range(TRIES):
        clock = Clock()
        report = await verify(archive, None, "bench", Trust([key.public], [key.mark_key]))
        spent.append(clock.spent())
        assert (report.bad, report.records) == (None, RECORDS)
    rows.append(("verify them, with the content of every third", _speeds(RECORDS, spent), "50,000 a second"))
    for name, query in (("an end user", Query(user_id="user-7")), ("a task", Query(task_id=str(10**24 + 777)))):
        spent = []
        for _ in range(TRIES):
            clock = Clock()
            found = len([record async for record in search(Trail(archive, None), query)])
            spent.append(clock.spent())
        rows.append((f"search them for {name}: {found:,} found", _speeds(RECORDS, spent), "50,000 a second"))
    return rows


async def strangers(gateway: Gateway, count: int) -> Counter[bytes]:
    """So many requests with a wrong key on one connection; the statuses."""
    seen: Counter[bytes] = Counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    body = json.dumps(BODY).encode()
    head = b"POST /api/paas/v4/videos/generations HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer nobody.nothing\r\n"
    request = head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    for _ in range(count):
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        seen[answer.split(b" ", 2)[1]] += 1
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
    writer.close()
    return seen


async def accepts(gateway: Gateway, flood: "asyncio.Future[object] | None", least: int) -> list[float]:
    """Milliseconds of accepted jobs, one after another, while the flood goes on."""
    import httpx2

    spent = []
    async with httpx2.AsyncClient(base_url=gateway.api, headers={"Authorization": f"Bearer {gateway.key}"}) as client:
        while len(spent) < least or (flood is not None and not flood.done()):
            started = time.perf_counter()
            said = await client.post("/videos/generations", json=BODY, timeout=30)
            assert said.status_code == 200, said.text
            spent.append((time.perf_counter() - started) * 1000)
            await asyncio.sleep(0.05)
    return sorted(spent)


async def flood(gateway: Gateway) -> Rows:
    alone = await accepts(gateway, None, 50)
    started = time.perf_counter()
    tasks = [strangers(gateway, STRANGERS // CONNECTIONS) for _ in range(CONNECTIONS)]
    flooding = asyncio.gather(*tasks)
    crowded = await accepts(gateway, flooding, 50)
    seen = sum((found for found in await flooding), Counter[bytes]())
    spent = time.perf_counter() - started
    assert seen == {b"401": STRANGERS}, seen
    return [
        ("strangers' requests, every one of them answered 401", f"{STRANGERS:,} in {spent:.0f} s", "100,000"),
        ("accept alone: median, 95th percentile", f"{_middle(alone)}", ""),
        (f"accept during the flood ({len(crowded)} of {len(crowded)} accepted)", f"{_middle(crowded)}", "it works"),
    ]


async def audited(redis_url: str, state: Path) -> Rows:
    """What the flood left behind, once its last minute is over."""
    redis = lazy_redis(redis_url)
    office = open_audit(AuditSettings(state=state), redis)
    records = [record async for record in search(office.trail, Query(event="counted"))]
    counted = sum(record["counts"].get("anonymous:1000", 0) for record in records)
    reports = [
        await verify(office.archive, office.ledger, chain, office.trust) for chain in await office.trail.chains()
    ]
    await redis.aclose()
    assert counted == STRANGERS, counted
    assert not any(report.bad for report in reports)
    total = sum(report.records for report in reports)
    return [("audit afterwards", f"{total:,} records are whole; the strangers are {len(records)} of them", "it works")]


def words() -> Rows:
    dice = random.Random(1)
    chinese = ["".join(chr(dice.randrange(0x4E00, 0x9FA5)) for _ in range(dice.randint(2, 6))) for _ in range(25_000)]
    latin = [
        "".join(dice.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(dice.randint(5, 12))) for _ in range(25_000)
    ]
    matcher = Matcher({"zh": chinese, "en": latin})
    spent = []
    for _ in range(1000):
        letters = (dice.choice([chr(dice.randrange(0x4E00, 0x9FA5)), "q7x. "[dice.randrange(5)]]) for _ in range(512))
        text = "".join(letters)
        started = time.process_time()
        matcher.find(text)
        spent.append((time.process_time() - started) * 1000)
    return [
        (f"512 characters against {len(matcher):,} words, CPU: median, 95th percentile", _middle(sorted(spent)), "1 ms")
    ]


def _middle(spent: list[float]) -> str:
    return f"{spent[len(spent) // 2]:.2f} and {spent[len(spent) * 95 // 100]:.2f} ms"


def main() -> None:
    rows = words()
    with tempfile.TemporaryDirectory() as folder:
        rows += asyncio.run(speeds(Path(folder) / "bench"))
        state = Path(folder)
        path = socket_path(state)
        redis = subprocess.Popen(redis_command(redis_binary(), state, path), stdout=subprocess.DEVNULL)
        while not path.exists():
            time.sleep(0.05)
        try:
            with Gateway(f"unix://{path}", state) as gateway:
                rows += asyncio.run(flood(gateway))
                # The minute has to end before its counters become a record.
                time.sleep(75)
                rows += asyncio.run(audited(f"unix://{path}", state))
        finally:
            redis.terminate()
            redis.wait()
    _tell(rows)


def _tell(rows: Rows) -> None:
    load = os.getloadavg()[0]
    head = (
        f"`make prove-audit ARGS=--write` on {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, on one core, while the machine's load was {load:.0f}: "
        f"figures by the clock had to share it, figures by CPU had not. Speeds are the fastest of {TRIES}."
    )
    table = ["| what | figure | aim |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)]
    text = f"# The audit and the policy\n\n{head}\n\n" + "\n".join(table) + "\n"
    print(text)
    if "--write" in sys.argv:
        (ROOT / "docs" / "benchmarks" / "audit.md").write_text(text)


if __name__ == "__main__":
    main()
