"""The runs with names. `run.py faults` takes 18 minutes; `run.py long --slices N` adds N storms of 20 minutes.

Every slice is kept as JSON, and the table is always of all that are kept. `--write` puts it into docs/benchmarks/.
"""

import argparse
import asyncio
import functools
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults.figures import ROOT, Figures, kinds, table
from tests.faults.figures import slices as shown_slices
from tests.faults.fleet import Shape
from tests.faults.idle import orphan
from tests.faults.nemesis import Sandman
from tests.faults.poison import Poisoned, poison
from tests.faults.realengine import Survived, strike
from tests.faults.storm import Plan, storm

KEPT = ROOT / "build" / "faults-long"
SLICE_SECONDS, LEAST_JOBS, LEAST_KILLS, ZOMBIES, KILLS = 1200.0, 2000, 200, 300, 20
PRODUCTION = Shape(workers=5, lease_s=15.0)
SLEEPERS = Shape(workers=8, lease_s=2.0)
HEAD = """# {title}

`{command}` on {day}, {cores} cores, Python {python}; load of the machine at the end {load:.0f}.
What is done and what is checked: [reliability.md](../reliability.md).

"""
T = TypeVar("T")


def in_folder(make: "functools.partial[Coroutine[Any, Any, T]]", name: str) -> T:
    with tempfile.TemporaryDirectory(prefix=f"faults-{name}-") as folder:
        started = time.monotonic()
        done = asyncio.run(make(Path(folder)))
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
        return done


def faults(seed: int) -> tuple[str, list[str]]:
    """The table and what is wrong."""
    plan = Plan(seed, 300, every_s=0.8, crowd=96, least_jobs=LEAST_JOBS, least_kills=LEAST_KILLS)
    mixed = in_folder(functools.partial(storm, shape=PRODUCTION, plan=plan), "storm")
    sleepy = Plan(seed, 120, 0, 24, Sandman, True, least_zombies=ZOMBIES + 5)
    asleep = in_folder(functools.partial(storm, shape=SLEEPERS, plan=sleepy), "zombies")
    of_engine = functools.partial(poison, shape=PRODUCTION, prompts=["die"] * 5 + ["segv"] * 5, innocents=200)
    engines = in_folder(of_engine, "poison")
    of_worker = functools.partial(poison, shape=Shape(workers=4, lease_s=2.0), prompts=["orphan"] * 3, innocents=50)
    workers = in_folder(of_worker, "poison of workers")
    idle = in_folder(functools.partial(orphan), "idle fleet")
    real = in_folder(functools.partial(strike, kills=KILLS), "real engine")
    parts = [table(mixed, "the storm"), idle.table(), _zombies(asleep), _poison(engines, workers), _real(real)]
    body = "\n\n".join(parts)
    wrong = mixed.violations + asleep.violations + engines.violations + workers.violations
    wrong += idle.problems + real.problems
    return body, wrong + _missed(mixed, asleep, engines, real)


def _missed(mixed: Figures, asleep: Figures, engines: Poisoned, real: Survived) -> list[str]:
    """Targets that were not reached: a run that did too little has shown too little."""
    targets = {
        f"{mixed.all_kills} kills of {LEAST_KILLS}": mixed.all_kills >= LEAST_KILLS,
        f"{mixed.jobs} jobs of {LEAST_JOBS:,}": mixed.jobs >= LEAST_JOBS,
        f"{mixed.causeless_leases} leases lost without a fault": mixed.causeless_leases == 0,
        "p99 of recovery over 20 s": mixed.recovers_within(20.0),
        f"{asleep.zombies_refused} zombies refused of {ZOMBIES}": asleep.zombies_refused >= ZOMBIES,
        f"verdict on poison after {max(engines.verdicts_s):.0f} s": max(engines.verdicts_s) <= 60.0,
        f"{engines.innocents_failed} innocents failed": engines.innocents_failed == 0,
        f"{sum(real.kills.values())} kills of the real engine of {KILLS}": sum(real.kills.values()) >= KILLS,
    }
    return [f"missed: {told}" for told, is_reached in targets.items() if not is_reached]


def _zombies(asleep: Figures) -> str:
    return (
        f"| zombies, with leases of {asleep.lease_s:g} s | |\n|---|---|\n"
        f"| workers put to sleep for longer than their lease | {asleep.other_faults.get('stop', 0)} |\n"
        f"| late results refused | **{asleep.zombies_refused}** |\n"
        f"| late results published over a newer claim | **{asleep.doubled}** |\n"
        f"| jobs; lost; violations | {asleep.jobs:,}; {asleep.lost}; {len(asleep.violations)} |"
    )


def _poison(engines: Poisoned, workers: Poisoned) -> str:
    head = "| poison | first start → verdict, p50 / worst | innocents failed |\n|---|---|---|\n"
    rows = [
        engines.row("ends its engine; leases of 15 s"),
        workers.row("ends its worker; leases of 2 s"),
    ]
    return head + "\n".join(rows)


def _real(real: Survived) -> str:
    kills = ", ".join(f"{count} {role}" for role, count in sorted(real.kills.items()))
    return (
        f"| the real engine, tiny model | |\n|---|---|\n| kills while it renders | {kills} |\n"
        f"| jobs; succeeded | {real.jobs}; {real.succeeded} |\n"
        f"| different clips of one seed | **{real.different_clips}** (of {real.frames} frames) |\n"
        f"| seconds | {real.seconds:.0f} |"
    )


def slice_of(seed: int) -> Figures:
    return in_folder(functools.partial(storm, shape=PRODUCTION, plan=Plan(seed, SLICE_SECONDS, 1.0, 96)), "slice")


def long(slices: int) -> tuple[str, list[str]]:
    KEPT.mkdir(parents=True, exist_ok=True)
    for _ in range(slices):
        seed = secrets.randbelow(10**6)
        print(f"slice with seed {seed}", flush=True)
        figures = slice_of(seed)
        figures.save(KEPT / f"{time.time():.0f}-{seed}.json")
        print("\n".join(figures.violations[:50]), flush=True)
    kept = [Figures.load(path) for path in sorted(KEPT.glob("*.json"))]
    total = functools.reduce(Figures.plus, kept)
    body = "\n\n".join([table(total, "all slices"), shown_slices(kept), *total.notes])
    return body, total.violations


def write(name: str, title: str, command: str, body: str) -> None:
    python = ".".join(map(str, sys.version_info[:3]))
    told = {"day": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "python": python, "load": os.getloadavg()[2]}
    (ROOT / "docs" / "benchmarks" / name).write_text(HEAD.format(title=title, command=command, **told) + body + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile", choices=["faults", "long"])
    parser.add_argument("--seed", type=int, default=None, help="of the storm in `faults`; one that a run printed")
    parser.add_argument("--slices", type=int, default=1, help="storms of 20 minutes to add; 0 shows what is kept")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks/")
    args = parser.parse_args()
    if args.profile == "long":
        body, wrong = long(args.slices)
        name, title, command = "faults-long.md", "Faults, the long run", "make faults-long"
    else:
        seed = secrets.randbelow(10**6) if args.seed is None else args.seed
        print(f"seed {seed}: again with --seed {seed}", flush=True)
        body, wrong = faults(seed)
        name, title, command = "faults.md", "Faults", "make faults"
    print(body)
    print("\n".join(wrong[:100]) or "no violation of I1 to I9")
    if args.write:
        write(name, title, command, body + ("\n\n" + kinds(wrong) if wrong else ""))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
