"""A few children on one machine: started in order, watched, restarted, and ended together."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

GRACE_SECONDS, MAX_BACKOFF_SECONDS, SETTLED_SECONDS = 30.0, 30.0, 10.0


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

    def is_running(self, name: str) -> bool:
        return all(child.process.poll() is None for child in self._children if child.name == name)

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
        """End all children, the last started first; whoever takes too long is killed."""
        for child in reversed(self._children):
            if child.process.poll() is None:
                child.process.terminate()
            self._wait(child, is_urgent)

    def _wait(self, child: Watched, is_urgent: Callable[[], bool]) -> None:
        deadline = time.monotonic() + GRACE_SECONDS / 2
        while child.process.poll() is None:
            if is_urgent() or time.monotonic() > deadline:
                child.process.kill()
            time.sleep(0.05)


def _spawn(command: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    wrapped = [sys.executable, "-P", "-m", "cogvideox_server.child", *command]
    # stdout belongs to `up` alone: `--json` prints one line there.
    return subprocess.Popen(
        wrapped, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno()
    )
