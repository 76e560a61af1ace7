"""The real scripts against the plain model, under directed events: `python -P tests/faults/machine.py --least 1000`.

Redis's clock is the test's own here, so that hours pass in no time; every other line of the scripts is the product's.
"""

import argparse
import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from cogvideox_server.redis import redis_binary
from tests.faults.rules import JobMachine

EVENTS = (
    *("stall", "zombie", "ambiguous accept", "overtaken accept", "ambiguous claim", "arrived twice"),
    *("redis gap", "clock forward", "clock back", "late finish", "cancel against finish", "poison", "lost leases"),
    *("start too late", "run too long", "retried", "held back", "queue paused", "told again"),
)


@contextmanager
def private_redis() -> Iterator[str]:
    """A Redis that keeps nothing: here the scripts are on trial, not the disk."""
    with tempfile.TemporaryDirectory(prefix="machine-") as folder:
        path = Path(folder) / "redis.sock"
        args = [redis_binary(), "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", folder]
        with subprocess.Popen(args, stdout=subprocess.DEVNULL) as process:
            try:
                while not _listens(path):
                    time.sleep(0.02)
                yield f"unix://{path}"
            finally:
                process.terminate()


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as line:
        return line.connect_ex(str(path)) == 0


def explore(url: str, examples: int, chosen_seed: int, bug: str = "", steps: int = 30) -> Counter[str]:
    """So many examples; AssertionError, shrunk, where the scripts and the model part. How often each event came."""
    machine: Any = type("JobMachine", (JobMachine,), {"url": url, "bug": bug, "events": Counter(), "steps": 0})
    machine.loop = asyncio.new_event_loop()
    try:
        how = settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
            print_blob=False,
        )
        seed(chosen_seed)(machine)
        run_state_machine_as_test(machine, settings=how)
    finally:
        machine.loop.run_until_complete(machine.loop.shutdown_asyncgens())
        machine.loop.close()
    return machine.events + Counter(steps=machine.steps)


def follow(url: str, schedule: Callable[[JobMachine], object], bug: str = "") -> None:
    """One schedule, step by step; AssertionError where the scripts and the model part."""
    machine: Any = type("JobMachine", (JobMachine,), {"url": url, "bug": bug, "events": Counter(), "steps": 0})
    machine.loop = asyncio.new_event_loop()
    walk = machine()
    try:
        schedule(walk)
        walk.what_redis_holds_is_what_the_model_holds()
    finally:
        walk.teardown()
        machine.loop.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--least", type=int, default=1000, help="go on until every event came so often")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    args = parser.parse_args()
    counted: Counter[str] = Counter()
    number = args.seed
    with private_redis() as url:
        while min(counted[event] for event in EVENTS) < args.least:
            counted += explore(url, 100, number)
            number += 1
            print(f"seeds {args.seed} to {number - 1}: {dict(counted)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
