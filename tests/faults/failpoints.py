"""Named places where a fault can strike, laid into the real processes from outside: the product knows none of them.

A fault is armed as a file `armed/NAME`; whoever passes the place first takes it, by renaming. A job is struck once at
most, so that no innocent job can collect enough bad luck to be judged poison.
"""

import asyncio
import contextlib
import errno
import functools
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = "FAULTS_FOLDER"
GATEWAY_POINTS = (
    *("g.received", "g.before_admit", "g.admitted", "g.before_accept", "g.accepted", "g.replying"),
    *("g.before_cancel", "g.cancelled", "g.reading"),
)
WORKER_POINTS = (
    *("w.claimed", "w.before_render", "w.rendered", "w.before_encode", "w.encoded", "w.before_upload", "w.mid_upload"),
    *("w.uploaded", "w.before_finish", "w.finished", "w.beating", "w.before_requeue", "w.requeued"),
    *("w.before_checkpoint", "w.checkpoint_uploaded", "w.checkpointed"),
)
ENGINE_POINTS = ("e.started", "e.mid_render", "e.checkpointed", "e.rendered")
FINISHER_POINTS = ("f.started", "f.mid_encode", "f.encoded")


class Fault(NamedTuple):
    action: str
    seconds: float


class Failpoints:
    def __init__(self, folder: Path, role: str) -> None:
        self._folder, self._role = folder, role
        self._read_to = 0
        for name in ("armed", "taken", "struck"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    @classmethod
    def of_this_process(cls, role: str) -> "Failpoints":
        return cls(Path(os.environ[FOLDER]), role)

    def arm(self, name: str, action: str, seconds: float = 0.0) -> None:
        half = self._folder / "armed" / f".{name}"
        half.write_text(f"{action} {seconds}")
        half.replace(self._folder / "armed" / name)

    def count_armed(self, prefix: str) -> int:
        return sum(1 for _ in (self._folder / "armed").glob(f"{prefix}*"))

    def is_armed(self, name: str) -> bool:
        return (self._folder / "armed" / name).exists()

    def hold(self, path: Path) -> Path:
        """The same file under another name, which nobody removes."""
        held = self._folder / f"held-{os.getpid()}-{time.monotonic_ns()}"
        held.hardlink_to(path)
        return held

    def disarm(self) -> None:
        for path in (self._folder / "armed").iterdir():
            path.unlink(missing_ok=True)

    def note(self, what: str, **about: Any) -> None:
        """One line of what happened; a line is one write, so that many processes can share the file."""
        line = {"t": time.time() * 1000, "what": what, "role": self._role, "pid": os.getpid()} | about
        descriptor = os.open(self._folder / "events.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, json.dumps(line).encode() + b"\n")
        finally:
            os.close(descriptor)

    def events(self) -> list[dict[str, Any]]:
        self._read_to = 0
        return self.newer_events()

    def newer_events(self) -> list[dict[str, Any]]:
        """Those noted since the last reading."""
        path = self._folder / "events.jsonl"
        if not path.exists():
            return []
        with path.open("rb") as lines:
            lines.seek(self._read_to)
            whole = lines.read().rpartition(b"\n")[0]
        self._read_to += len(whole) + bool(whole)
        return [json.loads(line) for line in whole.splitlines()]

    def pass_by(self, name: str, job_id: str = "", token: str = "") -> float:
        """Do what is armed here, if anything; the seconds that the caller must wait."""
        fault = self._take(name, job_id)
        if fault is None:
            return 0.0
        self.note(fault.action, point=name, job_id=job_id, token=token, seconds=fault.seconds)
        if fault.action == "delay":
            return fault.seconds
        if fault.action == "enospc":
            raise OSError(errno.ENOSPC, f"no space left, says {name}")
        if fault.action == "error":
            raise ConnectionError(f"failpoint {name}")
        os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[fault.action])
        return 0.0

    async def pass_by_async(self, name: str, claim: tuple[str, ...] = ()) -> None:
        await asyncio.sleep(self.pass_by(name, *claim))

    def _take(self, name: str, job_id: str) -> Fault | None:
        armed = self._folder / "armed" / name
        if not armed.exists() or not self._may_strike(job_id):
            return None
        taken = self._folder / "taken" / f"{name}.{os.getpid()}.{time.monotonic_ns()}"
        try:
            armed.rename(taken)
        except FileNotFoundError:
            return None
        if job_id:
            with contextlib.suppress(FileExistsError):
                (self._folder / "struck" / job_id).touch(exist_ok=False)
        action, seconds = taken.read_text().split()
        return Fault(action, float(seconds))

    def _may_strike(self, job_id: str) -> bool:
        return not job_id or not (self._folder / "struck" / job_id).exists()


def around(
    owner: type,
    method: str,
    points: Failpoints,
    names: tuple[str, str],
    claim_of: Callable[[tuple[Any, ...], Any], tuple[str, ...]] = lambda _args, _answer: (),
) -> None:
    """Lay two places around a coroutine method: before it, and after it took effect but before the caller knows."""
    original: Callable[..., Awaitable[Any]] = getattr(owner, method)
    before, after = names

    @functools.wraps(original)
    async def wrapped(self: Any, *args: Any, **named: Any) -> Any:
        if before:
            await points.pass_by_async(before, claim_of(args, None))
        answer = await original(self, *args, **named)
        if after:
            await points.pass_by_async(after, claim_of(args, answer))
        return answer

    setattr(owner, method, wrapped)
