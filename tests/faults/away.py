"""Redis, then the store, away for a minute with jobs in hand and production leases: nobody is taken for dead."""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults.callers import Callers, read_history
from tests.faults.fleet import Fleet, Shape
from tests.faults.run import write

AWAY_SECONDS, MOMENT_SECONDS = 60.0, 2.0
# A step is 0.8 s: a short job is rendered and finished while all is away, a long one is still rendered afterwards.
SHAPE = Shape(gateways=2, workers=4, lease_s=15.0, engine_job_s=4.0)
SHORT, LONG, LONG_SECONDS = "a cat", "long", 80.0
REFUSED = {f"{what}: 503 with Retry-After" for what in ("read", "submit")}

Take = Callable[[Fleet], Awaitable[None]]


@dataclass
class Outage:
    attempts: list[int]
    """Of each job."""

    succeeded: int
    longest_s: float
    """From the start of a long job to its end: with the time away added it would be much more."""

    restarted: int
    """Workers and engines that are not the same as before."""

    answers: Counter[str]
    """What the gateways answered meanwhile."""

    @property
    def problems(self) -> list[str]:
        promised = {
            f"{len(self.attempts) - self.succeeded} jobs did not succeed": self.succeeded == len(self.attempts),
            f"attempts: {self.attempts}": set(self.attempts) == {1},
            f"{self.longest_s:.0f} s for a long job": self.longest_s < LONG_SECONDS + AWAY_SECONDS / 6,
            f"{self.restarted} processes are not the same": self.restarted == 0,
        }
        return [told for told, holds in promised.items() if not holds]

    def column(self) -> list[str]:
        return [
            f"{len(self.attempts)}; {self.succeeded}; {self.attempts}",
            f"{self.longest_s:.0f} s",
            str(self.restarted),
            ", ".join(f"{count} x {what}" for what, count in sorted(self.answers.items())),
        ]


async def take_redis(fleet: Fleet) -> None:
    await fleet.restart_redis(AWAY_SECONDS)


async def take_store(fleet: Fleet) -> None:
    await asyncio.to_thread(fleet.fail_bucket, 1.0, 503, AWAY_SECONDS)
    await asyncio.sleep(AWAY_SECONDS)


async def away(folder: Path, take: Take) -> Outage:
    async with Fleet(folder, SHAPE) as fleet:
        callers = Callers(fleet.urls(), fleet.key, folder, 1, is_plain=True)
        await fleet.until_workers(SHAPE.workers)
        jobs = [callers.one_job(prompt, f"{prompt}-{each}") for prompt in (SHORT, LONG) for each in range(2)]
        crowd = asyncio.ensure_future(asyncio.gather(*jobs))
        await fleet.until_running(len(jobs))
        before, began = _alive(fleet), time.time() * 1000
        outage = asyncio.ensure_future(take(fleet))
        await asyncio.sleep(MOMENT_SECONDS)
        late = asyncio.create_task(callers.one_job(SHORT, "asked-meanwhile"))
        await outage
        ended = time.time() * 1000
        ends = [*await crowd, await late]
        after, records = _alive(fleet), await fleet.records()
        await callers.close()
    # What was under way when it went, or when it came back, may be answered either way.
    window = (began + MOMENT_SECONDS * 1000, ended - MOMENT_SECONDS * 1000)
    asked = [line for line in read_history(folder) if window[0] < line["invoked"] < line["answered"] < window[1]]
    spans = [(record.attempts[-1].ended_ms or 0) - record.attempts[0].started_ms for record in records]
    return Outage(
        attempts=[len(record.attempts) for record in records],
        succeeded=ends.count("SUCCESS"),
        longest_s=max(spans) / 1000,
        restarted=len(set(before.items()) - set(after.items())),
        answers=Counter(_answer(line) for line in asked),
    )


def _alive(fleet: Fleet) -> dict[str, int]:
    workers = [name for name in fleet.processes if name.startswith("worker")]
    engines = {f"{name}'s engine": fleet.children(name)["engine"] for name in workers}
    return engines | {name: process.pid for name, process in fleet.processes.items() if name in workers}


def _answer(line: dict[str, object]) -> str:
    if "unknown" in line:
        return f"none: {line['unknown']}"
    retry = " with Retry-After" if line["retry_after"] else ""
    return f"{line['op']}: {line['status']}{retry}"


def table(columns: list[list[str]]) -> str:
    rows = (
        "jobs, the last asked for meanwhile; succeeded; attempts of each",
        f"a long job, undisturbed {LONG_SECONDS:.0f} s of rendering, took",
        "workers and engines that died",
        "answers meanwhile",
    )
    head = f"| {AWAY_SECONDS:.0f} s, leases of {SHAPE.lease_s:g} s | Redis away | the store away |\n|---|---|---|"
    return "\n".join([head, *(f"| {' | '.join(cells)} |" for cells in zip(rows, *columns, strict=True))])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks/")
    args = parser.parse_args()
    outages = []
    for take in (take_redis, take_store):
        with tempfile.TemporaryDirectory(prefix="faults-away-") as folder:
            outages.append(asyncio.run(away(Path(folder), take)))
    problems = [problem for outage in outages for problem in outage.problems]
    if set(outages[0].answers) != REFUSED:
        problems.append(f"answers without Redis: {dict(outages[0].answers)}")
    made = table([outage.column() for outage in outages])
    print(made)
    print("\n".join(problems) or "as promised")
    if args.write:
        write("outage.md", "Redis or the store away", "make outage", made)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
