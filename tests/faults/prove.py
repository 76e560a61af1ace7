"""The harness proves itself: every seeded bug turns its shortest schedule red, and without it the schedule is green."""

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults.callers import Callers
from tests.faults.checker import violations
from tests.faults.evidence import Evidence, gather
from tests.faults.figures import ROOT, lost_without_cause
from tests.faults.fleet import Fleet, Shape
from tests.faults.machine import follow, private_redis
from tests.faults.mutants import MUTANTS
from tests.faults.seeded import BUGS

PATIENCE_SECONDS = 120.0
LEASE_SECONDS = 3.0


class Scene(NamedTuple):
    """One fault at one moment; the prompt of the one job; what must hold besides I1 to I9."""

    fault: Callable[[Fleet, Callers], Awaitable[None]]
    prompt: str = "a cat"
    also: Callable[[Evidence], list[str]] = lambda _: []
    lease_s: float = LEASE_SECONDS


async def kill_the_gateway_that_answered(fleet: Fleet, callers: Callers) -> None:
    while not callers.accepted:
        await asyncio.sleep(0.005)
    fleet.kill("gateway-0")


async def sleep_before_the_upload(fleet: Fleet, _callers: Callers) -> None:
    fleet.points.arm("w.before_upload", "stop", 2.5 * LEASE_SECONDS)


async def kill_after_publishing(fleet: Fleet, _callers: Callers) -> None:
    fleet.points.arm("w.finished", "kill")


async def lose_redis_for_a_moment(fleet: Fleet, callers: Callers) -> None:
    while not callers.accepted:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    fleet.order("worker-redis", "cut", 1.5)


async def hide_redis_from_gateways(fleet: Fleet, _callers: Callers) -> None:
    fleet.order("gateway-redis", "cut", 2.0)


async def drain_the_worker_at_work(fleet: Fleet, _callers: Callers) -> None:
    while not any(event["what"] == "saved" for event in fleet.points.newer_events()):
        await asyncio.sleep(0.05)
    for name in ("worker-0", "worker-1"):
        fleet.expected_exits.add(fleet.kill(name, signal.SIGTERM))
        await asyncio.sleep(0.1)


def ran_once(evidence: Evidence) -> list[str]:
    return [f"{r.job.id} ran {len(r.attempts)} times" for r in evidence.records.values() if len(r.attempts) > 1]


def was_handed_back(evidence: Evidence) -> list[str]:
    return [f"the lease of {token} was lost beside nobody's death" for token in lost_without_cause(evidence)]


SCENES: dict[str, Scene] = {
    "the answer before the job is written": Scene(kill_the_gateway_that_answered),
    "one path for every attempt": Scene(sleep_before_the_upload),
    "success before the upload": Scene(kill_after_publishing),
    "one failed beat is the last": Scene(lose_redis_for_a_moment, "long", ran_once, 4.0),
    "an outage is a server error": Scene(hide_redis_from_gateways),
    "a drain just ends": Scene(drain_the_worker_at_work, "long", was_handed_back),
}


async def play(folder: Path, scene: Scene, bug: str) -> list[str]:
    """What is wrong afterwards."""
    shape = Shape(gateways=1, workers=2, lease_s=scene.lease_s, engine_job_s=0.3, seeded=bug)
    async with Fleet(folder, shape) as fleet:
        callers = Callers(fleet.urls(), fleet.key, folder, 1, is_plain=True)
        tending = asyncio.create_task(fleet.tend())
        striking = asyncio.ensure_future(scene.fault(fleet, callers))
        await asyncio.sleep(0.05)
        stuck = []
        try:
            await asyncio.wait_for(callers.one_job(scene.prompt, "request"), PATIENCE_SECONDS)
            await striking
        except TimeoutError:
            stuck = ["I1 stuck: the caller still waits"]
        # A sleeper that is still to wake, a background task that is still to run.
        await asyncio.sleep(3 * scene.lease_s)
        for task in (tending, striking):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await callers.close()
        evidence = await gather(fleet, folder)
    return violations(evidence) + stuck + scene.also(evidence)


def played(name: str, bug: str) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="prove-") as folder:
        return asyncio.run(play(Path(folder), SCENES[name], bug))


def prove_scripts() -> dict[str, str]:
    told = {}
    with private_redis() as url:
        for name, mutant in MUTANTS.items():
            follow(url, mutant.schedule)
            try:
                follow(url, mutant.schedule, name)
            except AssertionError:
                told[name] = "red"
            else:
                told[name] = "NOT CAUGHT"
    return told


def prove_processes() -> dict[str, str]:
    told = {}
    for name in BUGS:
        print(f"{name} …", flush=True)
        right, wrong = played(name, ""), played(name, name)
        told[name] = f"red without the bug: {right[0]}" if right else ("red" if wrong else "NOT CAUGHT")
        print(f"{name}: {told[name]}: {wrong[:2]}", flush=True)
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks/")
    parser.add_argument("--only", default="", help="one seeded bug of the processes")
    args = parser.parse_args()
    if args.only:
        print(played(args.only, ""), played(args.only, args.only), sep="\n")
        return 0
    told = prove_scripts() | prove_processes()
    caught = sum(verdict == "red" for verdict in told.values())
    rows = [f"| {name} | {'scripts' if name in MUTANTS else 'processes'} | {said} |" for name, said in told.items()]
    head = ["| seeded bug | planted in | its shortest schedule |", "|---|---|---|"]
    body = f"{caught} of {len(told)} seeded bugs caught.\n\n" + "\n".join(head + rows)
    print(body)
    if args.write:
        path = ROOT / "docs" / "benchmarks" / "faults-proof.md"
        path.write_text(f"# The harness proves itself\n\n`make prove-faults ARGS=--write`: {body}\n")
    return 0 if caught == len(told) else 1


if __name__ == "__main__":
    sys.exit(main())
