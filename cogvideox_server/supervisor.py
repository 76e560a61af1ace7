"""A few children on one machine: started in order, watched, restarted, and ended together."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

# A worker drains for 25 s; gateway and Redis need a moment each.
GRACE_SECONDS, TURN_SECONDS = 30.0, 2.0
MAX_BACKOFF_SECONDS, SETTLED_SECONDS = 30.0, 10.0


@dataclass
class Watched:
    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    process: "subprocess.Popen[bytes]"
    started: float
    failures: int = 0
    restart_at: float | None = None


class Supervisor:
    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._children: list[Watched] = []

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Start a child that ends with us; its pid."""
        process = _spawn(command, environment)
        self._children.append(Watched(name, command, environment, process, time.monotonic()))
        return process.pid

    def pids(self, name: str) -> list[int]:
        return [child.process.pid for child in self._children if child.name == name]

    def dead(self) -> str | None:
        """One that does not run, by name."""
        return next((child.name for child in self._children if child.process.poll() is not None), None)

    def tend(self) -> None:
        """Restart what died; each death in a row waits longer."""
        now = time.monotonic()
        for child in self._children:
            if child.process.poll() is None:
                if now - child.started > SETTLED_SECONDS:
                    child.failures = 0
            elif child.restart_at is None:
                pause = min(MAX_BACKOFF_SECONDS, 0.5 * 2**child.failures)
                self._say(f"{child.name} ended with status {child.process.returncode}; restarting in {pause:.1f} s")
                child.restart_at, child.failures = now + pause, child.failures + 1
            elif now >= child.restart_at:
                child.process, child.started = _spawn(child.command, child.environment), now
                child.restart_at = None

    def stop(self, is_urgent: Callable[[], bool]) -> None:
        """End all children, the last started first, those of one name together; the first turn has most of the time."""
        names = list(dict.fromkeys(child.name for child in reversed(self._children)))
        started = time.monotonic()
        for turn, name in enumerate(names, 1):
            running = [child for child in self._children if child.name == name and child.process.poll() is None]
            for child in running:
                child.process.terminate()
            self._wait(running, is_urgent, started + GRACE_SECONDS - TURN_SECONDS * (len(names) - turn))

    def _wait(self, children: list[Watched], is_urgent: Callable[[], bool], deadline: float) -> None:
        while any(child.process.poll() is None for child in children):
            if is_urgent() or time.monotonic() > deadline:
                for child in children:
                    child.process.kill()
            time.sleep(0.05)


def _spawn(command: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    wrapped = [sys.executable, "-P", "-m", "cogvideox_server.child", str(os.getpid()), *command]
    # stdout belongs to `up` alone: `--json` prints one line there.
    return subprocess.Popen(
        wrapped, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno()
    )
