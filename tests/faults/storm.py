"""One storm: callers, faults and a reading of the evidence. `python -P tests/faults/storm.py --help`."""

import argparse
import asyncio
import contextlib
import secrets
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults.callers import Callers
from tests.faults.checker import violations
from tests.faults.evidence import gather
from tests.faults.failpoints import Failpoints
from tests.faults.figures import Figures, measure, table
from tests.faults.fleet import Fleet, Shape
from tests.faults.nemesis import Nemesis

CALM_SECONDS = 150.0


@dataclass(frozen=True)
class Plan:
    seed: int
    seconds: float
    every_s: float = 2.2
    crowd: int = 48
    nemesis: type[Nemesis] = Nemesis
    is_plain: bool = False
    least_jobs: int = 0
    least_kills: int = 0
    least_zombies: int = 0
    """A storm that has done less than this when its time is over goes on, up to three times as long."""


async def storm(folder: Path, shape: Shape, plan: Plan) -> Figures:
    """So many seconds of load and faults, then calm until every job has ended; then the evidence is read."""
    async with Fleet(folder, shape) as fleet:
        callers = Callers(fleet.urls(), fleet.key, folder, plan.seed, plan.is_plain)
        tending = asyncio.create_task(fleet.tend())
        crowd = asyncio.create_task(callers.run(plan.crowd))
        await asyncio.sleep(min(5, plan.seconds / 5))
        started = time.monotonic()
        nemesis = asyncio.create_task(plan.nemesis(fleet, plan.seed, plan.every_s).run())
        enough = asyncio.create_task(_enough(fleet, callers, plan))
        await asyncio.wait({crowd, tending, nemesis, enough}, return_when=asyncio.FIRST_COMPLETED)
        enough.cancel()
        callers.is_over = True
        await _cancel(nemesis)
        seconds = time.monotonic() - started
        stuck = await _calm(crowd)
        await _cancel(tending)
        await callers.close()
        evidence = await gather(fleet, folder)
    found = violations(evidence) + stuck + [f"I5 {line}" for line in fleet.unexpected]
    return measure(evidence, found, plan.seed, seconds, shape.lease_s)


async def _enough(fleet: Fleet, callers: Callers, plan: Plan) -> None:
    await asyncio.sleep(plan.seconds)
    reader = Failpoints(fleet.folder / "faults", "conductor")
    kills, refused, until = 0, 0, time.monotonic() + 2 * plan.seconds
    while time.monotonic() < until:
        events = reader.newer_events()
        kills += sum(event["what"] == "kill" for event in events)
        refused += sum(not event.get("published", True) for event in events)
        is_busy = len(callers.accepted) >= plan.least_jobs
        if is_busy and kills >= plan.least_kills and refused >= plan.least_zombies:
            return
        await asyncio.sleep(1)


async def _calm(crowd: "asyncio.Task[None]") -> list[str]:
    """Nothing strikes any more: every caller must see its last job end."""
    try:
        async with asyncio.timeout(CALM_SECONDS):
            await crowd
    except TimeoutError:
        return [f"I1 stuck: a caller still waits {CALM_SECONDS:.0f} s after the last fault"]
    return []


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def run(shape: Shape, plan: Plan, folder: Path | None = None) -> Figures:
    if folder is not None:
        return asyncio.run(storm(folder, shape, plan))
    with tempfile.TemporaryDirectory(prefix="faults-") as made:
        return asyncio.run(storm(Path(made), shape, plan))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--every", type=float, default=2.2, help="seconds between faults, on average")
    parser.add_argument("--crowd", type=int, default=48, help="how many callers at once")
    parser.add_argument("--lease", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=None, help="a seed that a run printed")
    parser.add_argument("--keep", type=Path, help="a folder for logs, history and figures")
    parser.add_argument("--seeded", default="", help="plant this bug")
    args = parser.parse_args()
    seed = secrets.randbelow(10**6) if args.seed is None else args.seed
    print(f"seed {seed}: again with --seed {seed}", flush=True)
    plan = Plan(seed, args.seconds, args.every, args.crowd)
    figures = run(Shape(lease_s=args.lease, seeded=args.seeded), plan, args.keep)
    if args.keep:
        figures.save(args.keep / "figures.json")
    print(table(figures, f"seed {seed}"))
    for line in figures.violations[:50]:
        print(line)
    return 1 if figures.violations else 0


if __name__ == "__main__":
    sys.exit(main())
