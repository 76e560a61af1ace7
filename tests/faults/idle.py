"""An idle fleet and its orphans: a worker is killed, and others have nothing to do. How long until one has the job."""

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass
from pathlib import Path

from tests.faults.callers import Callers
from tests.faults.figures import shown
from tests.faults.fleet import Fleet, Shape

ROUNDS, ORPHANS, LIMIT_SECONDS = 10, 10, 20.0
# Twice as many workers as orphans: those that are killed need not come back first.
SHAPE = Shape(gateways=2, workers=2 * ORPHANS, lease_s=15.0, engine_job_s=8.0)
LONGEST_PAUSE_SECONDS = 5.0


@dataclass
class PickedUp:
    """From the death of a job's worker to the next attempt."""

    waits_s: list[float]
    jobs: int
    succeeded: int

    @property
    def problems(self) -> list[str]:
        found = [f"{self.jobs - self.succeeded} jobs did not succeed"] if self.succeeded != self.jobs else []
        late = sum(wait_s > LIMIT_SECONDS for wait_s in self.waits_s)
        if len(self.waits_s) < self.jobs:
            found.append(f"missed: only {len(self.waits_s)} of {self.jobs} jobs were orphans")
        return found + ([f"missed: {late} orphans waited longer than 20 s"] if late > len(self.waits_s) / 100 else [])

    def table(self) -> str:
        told = f"{shown(self.waits_s, 0.5)} / {shown(self.waits_s, 0.99)} / {max(self.waits_s, default=0):.1f} s"
        return (
            "| an idle fleet, leases of 15 s | |\n|---|---|\n"
            f"| workers killed with a job in hand | {len(self.waits_s)} |\n"
            f"| killed worker → job claimed by an idle one, p50 / p99 / worst | {told} |\n"
            f"| jobs; succeeded | {self.jobs}; {self.succeeded} |"
        )


async def orphan(folder: Path, rounds: int = ROUNDS, orphans: int = ORPHANS, shape: Shape = SHAPE) -> PickedUp:
    """Round by round: so many jobs begin, and the workers of all of them are killed at once."""
    killed: dict[str, float] = {}
    ends: list[str] = []
    async with Fleet(folder, shape) as fleet:
        callers = Callers(fleet.urls(), fleet.key, folder, 1, is_plain=True)
        tending = asyncio.create_task(fleet.tend())
        await fleet.until_workers(shape.workers)
        for number in range(rounds):
            jobs = [callers.one_job("a cat", f"orphan-{number}-{each}") for each in range(orphans)]
            crowd = asyncio.ensure_future(asyncio.gather(*jobs))
            held = await fleet.until_running(orphans)
            await asyncio.sleep(random.uniform(0, LONGEST_PAUSE_SECONDS))
            for record in held:
                if name := fleet.holder(record):
                    killed[record.job.id] = time.time() * 1000
                    fleet.kill(name)
            ends += await crowd
            await fleet.until_workers(shape.workers)
        tending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tending
        await callers.close()
        records = {record.job.id: record for record in await fleet.records()}
    orphans_of = {job: at for job, at in killed.items() if len(records[job].attempts) > 1}
    waits_s = [(records[job].attempts[1].started_ms - at) / 1000 for job, at in orphans_of.items()]
    return PickedUp(waits_s, len(ends), ends.count("SUCCESS"))
