"""What Redis had on disk when it answered, by the system calls it made: `python -P tests/faults/power.py`.

A power cut is simulated: Redis is killed, and its append-only file cut back to what the last fsync covered.
"""

import argparse
import asyncio
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import redis as blocking
from redis.asyncio import Redis
from redis.exceptions import RedisError

from cogvideox_server.redis import redis_binary
from tests.faults.scripts import made_job
from video_jobs import keys
from video_jobs.queue import lazy_redis
from video_jobs.store import JobStore

CALLERS, START_SECONDS = 16, 20.0
CALL = re.compile(r"^(?P<pid>\d+) +(?P<name>write|writev|sendto|fdatasync|fsync)\(\d+<(?P<file>[^>]*)>")
RESUMED = re.compile(r"^(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>")
RESULT = re.compile(r"= (-?\d+)")


@dataclass
class Trace:
    """What strace saw: bytes of the append-only file written and fsynced, and answers that overtook the fsync."""

    written: int = 0
    synced: int = 0
    answers: int = 0
    early_answers: int = 0


def read_trace(lines: list[str]) -> Trace:
    trace, begun = Trace(), {}
    for line in lines:
        call, resumed = CALL.match(line), RESUMED.match(line)
        if call and "<unfinished" in line:
            # A sync covers what was written when it began.
            begun[call["pid"]] = (call["name"], call["file"], trace.written)
            _note_answer(trace, call["name"], call["file"])
        elif resumed and resumed["pid"] in begun:
            name, file, written = begun.pop(resumed["pid"])
            _note(trace, name, file, written, line)
        elif call:
            _note_answer(trace, call["name"], call["file"])
            _note(trace, call["name"], call["file"], trace.written, line)
    return trace


def _note(trace: Trace, name: str, file: str, written: int, line: str) -> None:
    result = RESULT.search(line[line.rfind(")") :])
    if not file.endswith(".incr.aof") or result is None or int(result[1]) < 0:
        return
    if name in ("fdatasync", "fsync"):
        trace.synced = max(trace.synced, written)
    else:
        trace.written += int(result[1])


def _note_answer(trace: Trace, name: str, file: str) -> None:
    if name in ("write", "writev", "sendto") and file.startswith(("UNIX", "TCP", "socket")):
        trace.answers += 1
        trace.early_answers += trace.written > trace.synced


class TracedRedis:
    def __init__(self, folder: Path, fsync: str) -> None:
        self._folder, self._fsync = folder, fsync
        self._log = folder / "strace.log"
        self.socket = folder / "redis.sock"

    def arguments(self) -> list[str]:
        options = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self._folder), "--save", ""]
        return [redis_binary(), *options, "--appendonly", "yes", "--appendfsync", self._fsync]

    @contextmanager
    def traced(self) -> Iterator[None]:
        """Ended by SIGKILL, as power cuts are."""
        calls = "trace=write,writev,sendto,fdatasync,fsync"
        strace = ["strace", "-f", "-y", "-s", "0", "-e", calls, "-o", str(self._log)]
        with subprocess.Popen([*strace, *self.arguments()], stdout=subprocess.DEVNULL) as process:
            try:
                self.wait()
                yield
            finally:
                pid = int(_children(process.pid)[0])
                subprocess.run(["kill", f"-{signal.SIGKILL}", str(pid)], check=True)
                process.wait()

    @contextmanager
    def again(self) -> Iterator[None]:
        self.socket.unlink(missing_ok=True)
        with subprocess.Popen(self.arguments(), stdout=subprocess.DEVNULL) as process:
            try:
                self.wait()
                yield
            finally:
                process.terminate()

    def wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                with blocking.Redis(unix_socket_path=str(self.socket)) as client:
                    client.ping()
                return
            except RedisError:
                time.sleep(0.02)
        raise TimeoutError("no Redis")

    def trace(self) -> Trace:
        return read_trace(self._log.read_text().splitlines())

    def cut(self) -> int:
        """Take from the file what no fsync covered; how many bytes that was."""
        [path] = (self._folder / "appendonlydir").glob("*.incr.aof")
        synced, size = self.trace().synced, path.stat().st_size
        with path.open("rb+") as file:
            file.truncate(min(size, synced))
        return max(0, size - synced)


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@dataclass
class Cut:
    acknowledged: int
    lost: int
    lost_bytes: int
    trace: Trace


def power_cut(folder: Path, fsync: str, seconds: float) -> Cut:
    """Accept jobs as fast as Redis takes them, cut the power, and count what was acknowledged and is gone."""
    server = TracedRedis(folder, fsync)
    with server.traced():
        acknowledged = asyncio.run(_accept(f"unix://{server.socket}", seconds))
    lost_bytes = server.cut()
    with server.again(), blocking.Redis(unix_socket_path=str(server.socket)) as client:
        kept = {name.decode().removeprefix(keys.JOB) for name in client.scan_iter(keys.JOB + "*", count=1000)}
    return Cut(len(acknowledged), len(acknowledged - kept), lost_bytes, server.trace())


async def _accept(url: str, seconds: float) -> set[str]:
    client: Redis = lazy_redis(url)
    store, acknowledged, until = JobStore(client), set(), time.monotonic() + seconds

    async def caller(number: int) -> None:
        made = 0
        while time.monotonic() < until:
            made += 1
            job_id = f"{number:05d}{made:020d}"
            acknowledged.add(await store.accept(made_job(job_id, job_id, "same")))

    await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    await client.aclose()
    return acknowledged


def rounds(count: int, fsync: str = "always") -> list[Cut]:
    found = []
    for _ in range(count):
        with tempfile.TemporaryDirectory(prefix="power-") as folder:
            found.append(power_cut(Path(folder), fsync, random.uniform(0.3, 1.5)))
    return found


def has_strace() -> bool:
    return shutil.which("strace") is not None


def row(fsync: str, cuts: list[Cut]) -> str:
    acknowledged, lost = sum(cut.acknowledged for cut in cuts), sum(cut.lost for cut in cuts)
    answers, early = sum(cut.trace.answers for cut in cuts), sum(cut.trace.early_answers for cut in cuts)
    worst = max(cut.lost for cut in cuts)
    return f"| {fsync} | {len(cuts)} | {acknowledged:,} | **{lost:,}** (at most {worst:,}) | {early:,} of {answers:,} |"


def table(count: int) -> tuple[str, list[str]]:
    """The table, and what is wrong with `always`; `everysec` is there to be read."""
    always, everysec = rounds(count), rounds(max(1, count // 4), "everysec")
    head = (
        "| appendfsync | power cuts | jobs acknowledged | lost | answers before their fsync |\n|---|---|---|---|---|\n"
    )
    lost = sum(cut.lost for cut in always) + sum(cut.trace.early_answers for cut in always)
    wrong = [f"I1 {lost} acknowledged jobs or answers were ahead of the disk"] if lost else []
    return head + row("always", always) + "\n" + row("everysec", everysec), wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    if not has_strace():
        print("strace is not installed: not measured")
        return 0
    shown, wrong = table(args.rounds)
    print(shown, *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
