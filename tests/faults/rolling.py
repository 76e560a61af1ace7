"""A rolling upgrade, and back again, under load: `make rolling`. Every restart changes the release of one process."""

import argparse
import asyncio
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from os import cpu_count
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import httpx2

from tests.faults.fleet import Fleet, Shape
from tests.faults.release import NEXT_RELEASE

POLL_SECONDS, END_SECONDS = 0.3, 90.0
# An orchestrator takes a gateway out of its endpoints a moment before it is told to stop.
DRAIN_SECONDS = 0.5


class RollingFleet(Fleet):
    """Each restart of a process turns it into the other release."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        super().__init__(folder, shape)
        self.next_release: set[str] = set()
        self.in_rotation = {name for name in self.ports if name.startswith("gateway-") and name[8:].isdigit()}

    def _command(self, name: str) -> tuple[list[str], dict[str, str]]:
        argv, environment = super()._command(name)
        return argv, environment | ({NEXT_RELEASE: "1"} if name in self.next_release else {})

    async def roll(self, name: str) -> None:
        is_gateway = name in self.in_rotation
        self.in_rotation.discard(name)
        await asyncio.sleep(DRAIN_SECONDS if is_gateway else 0)
        process = self.processes[name]
        process.terminate()
        await asyncio.to_thread(process.wait, 60)
        self.next_release ^= {name}
        self.start(name)
        if is_gateway:
            await self._until(lambda: self.is_ready(name))
            self.in_rotation.add(name)


@dataclass
class Load:
    """Callers that try once more, and no more, as an SDK behind a balancer."""

    fleet: RollingFleet
    is_over: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0

    async def caller(self, client: httpx2.AsyncClient, name: str) -> None:
        number = 0
        while not self.is_over:
            number += 1
            body = {"model": "cogvideox-2", "prompt": "a cat", "size": "720x480", "request_id": f"{name}-{number}"}
            made = await self._twice(client, "POST", "/videos/generations", json=body)
            if made is not None:
                self.counts["jobs"] += 1
                await self._follow(client, made["id"])

    async def _follow(self, client: httpx2.AsyncClient, task_id: str) -> None:
        started = time.monotonic()
        while time.monotonic() < started + END_SECONDS:
            said = await self._twice(client, "GET", f"/async-result/{task_id}")
            if said is not None and said["task_status"] != "PROCESSING":
                self.counts[said["task_status"]] += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - started)
                return
            await asyncio.sleep(POLL_SECONDS)
        self.counts["lost"] += 1

    async def _twice(self, client: httpx2.AsyncClient, method: str, path: str, **how: Any) -> dict[str, Any] | None:
        self.counts["requests"] += 1
        for attempt in ("tried again", "failed"):
            gateway = random.choice(sorted(self.fleet.in_rotation))
            try:
                reply = await client.request(
                    method, f"http://127.0.0.1:{self.fleet.ports[gateway]}/api/paas/v4{path}", **how
                )
                if reply.status_code == 200:
                    return dict(reply.json())
            except httpx2.HTTPError:
                pass
            self.counts[attempt] += 1
            await asyncio.sleep(0.5)
        return None


async def roll(folder: Path, restarts: int, callers: int) -> Load:
    async with RollingFleet(folder, Shape(gateways=3, workers=4, engine_job_s=0.4)) as fleet:
        load = Load(fleet)
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {fleet.key}"}, timeout=15) as client:
            crowd = asyncio.gather(*(load.caller(client, f"caller-{n}") for n in range(callers)))
            for number in range(restarts):
                await fleet.roll(f"gateway-{number % 3}")
                await fleet.roll(f"worker-{number % 4}")
            # Whatever releases are left: one worker of the newer kind must take its jobs.
            if not any(name.startswith("worker") for name in fleet.next_release):
                await fleet.roll("worker-0")
            load.is_over = True
            await crowd
    return load


def table(load: Load, restarts: int, seconds: float) -> str:
    counts = load.counts
    rows = [
        ("restarts of gateways / of workers", f"{restarts} / {restarts}"),
        ("requests", counts["requests"]),
        ("answered at the second try", counts["tried again"] - counts["failed"]),
        ("failed after one retry", counts["failed"]),
        ("jobs accepted", counts["jobs"]),
        ("jobs that succeeded", counts["SUCCESS"]),
        ("jobs that failed", counts["FAIL"]),
        ("jobs lost", counts["lost"]),
        ("slowest job", f"{load.slowest_s:.1f} s"),
        ("took", f"{seconds:.0f} s"),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("--callers", type=int, default=16)
    parser.add_argument("--write", action="store_true", help="keep the table")
    args = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rolling-") as folder:
        load = asyncio.run(roll(Path(folder), args.restarts, args.callers))
    head = f"`make rolling` on {datetime.now(UTC):%Y-%m-%d}, {cpu_count()} cores, Python {platform.python_version()}"
    shown = table(load, args.restarts, time.monotonic() - started)
    text = (
        f"# Rolling upgrade\n\n{head}. Each restart turns one process into the other release: the one\n"
        f"that stands here, or a stand-in of the one after it, whose jobs only its own workers take.\n\n{shown}\n"
    )
    print(text)
    if args.write:
        (ROOT / "docs" / "benchmarks" / "rolling.md").write_text(text)
    return 1 if load.counts["failed"] or load.counts["lost"] or load.counts["FAIL"] else 0


if __name__ == "__main__":
    sys.exit(main())
