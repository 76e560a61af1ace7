"""The whole house as real processes: Redis, an S3 server, gateways and workers, with a fault proxy between them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cogvideox_server.redis import redis_binary
from tests.faults.clip import make_clip
from tests.faults.failpoints import FOLDER, Failpoints
from tests.ports import free_port, listens
from video_jobs import keys
from video_jobs.job import JobRecord, JobState
from video_jobs.links import secret_file
from video_jobs.queue import lazy_redis
from video_jobs.settings import AuditSettings
from video_jobs.store import JobStore
from video_jobs.workers import WorkerRegistry

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUCKET = "videos"
START_SECONDS = 180.0
# How a child is known by its command line: a stand-in, or the real one.
CHILDREN = (
    *(("engine", "\0engine\0"), ("engine", "gpu_worker.engine\0")),
    *(("finisher", "\0finisher\0"), ("finisher", "gpu_worker.finish\0")),
)
LINKS = ("gateway-redis", "worker-redis", "s3")


@dataclass(frozen=True)
class Shape:
    """How large the house is, and how long its work takes."""

    gateways: int = 2
    workers: int = 4
    lease_s: float = 15.0
    engine_job_s: float = 0.08
    finisher_job_s: float = 0.05
    seeded: str = ""
    worker_command: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


class Fleet:
    def __init__(self, folder: Path, shape: Shape) -> None:
        self.folder, self.shape = folder, shape
        folder.mkdir(parents=True, exist_ok=True)
        self.points = Failpoints(folder / "faults", "conductor")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = {name: free_port() for name in ("redis", "s3-behind", *LINKS)}
        self.ports |= {f"gateway-{number}": free_port() for number in range(shape.gateways)}
        self.expected_exits: set[int] = set()
        self.unexpected: list[str] = []
        self.key = ""

    async def __aenter__(self) -> "Fleet":
        make_clip(self.points._folder / "clip.mp4")
        try:
            self.start("redis")
            self.start("bucket")
            self.start("proxy")
            await self._until(lambda: listens(self.ports["redis"]) and listens(self.ports["s3-behind"]))
            self._make_bucket()
            self.key = await self._make_key()
            names = [f"gateway-{n}" for n in range(self.shape.gateways)]
            for name in [*names, *(f"worker-{n}" for n in range(self.shape.workers))]:
                self.start(name)
            await self._until(lambda: all(map(self.is_ready, names)))
        except BaseException:
            self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()

    @property
    def redis_url(self) -> str:
        """Straight to Redis, past the proxy."""
        return f"redis://127.0.0.1:{self.ports['redis']}/0"

    @property
    def s3_endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3-behind']}"

    def urls(self) -> list[str]:
        names = [f"gateway-{n}" for n in range(self.shape.gateways)]
        return [f"http://127.0.0.1:{self.ports[name]}/api/paas/v4" for name in names]

    def start(self, name: str) -> None:
        """Start a process, or start it again; its log goes on."""
        argv, environment = self._command(name)
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", "cogvideox_server.child", str(os.getpid()), *argv],
                env={**os.environ, **self._environment(), **environment},
                cwd=ROOT,
                stdin=subprocess.PIPE if name == "proxy" else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self, name: str, sign: signal.Signals = signal.SIGKILL) -> int:
        """Send the signal, which is noted; the pid it went to."""
        process = self.processes[name]
        if process.poll() is None:
            what = {signal.SIGKILL: "kill", signal.SIGSTOP: "stop", signal.SIGCONT: "cont"}.get(sign, "term")
            self.points.note(what, target=name, target_pid=process.pid, role=name.partition("-")[0])
            process.send_signal(sign)
        return process.pid

    def children(self, name: str) -> dict[str, int]:
        """The pids of a worker's children, by role."""
        pid = self.processes[name].pid
        try:
            pids = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            lines = {child: Path(f"/proc/{child}/cmdline").read_text() for child in pids}
        except OSError:
            return {}
        return {role: pid for pid, line in lines.items() for role, mark in CHILDREN if mark in line}

    def holder(self, record: JobRecord) -> str | None:
        """The worker that a job's newest attempt is with, if it lives."""
        pid = int(record.attempts[-1].worker.split(":")[1])
        return next((name for name, process in self.processes.items() if process.pid == pid), None)

    async def records(self) -> list[JobRecord]:
        redis = lazy_redis(self.redis_url)
        store = JobStore(redis)
        try:
            ids = [name.decode().removeprefix(keys.JOB) async for name in redis.scan_iter(keys.JOB + "*", count=1000)]
            found = await asyncio.gather(*(store.get(job_id) for job_id in ids))
            return [record for record in found if record is not None]
        finally:
            await redis.aclose()

    async def until_running(self, count: int) -> list[JobRecord]:
        async with asyncio.timeout(START_SECONDS):
            while True:
                running = [record for record in await self.records() if record.state is JobState.RUNNING]
                if len(running) == count:
                    return running
                await asyncio.sleep(0.1)

    async def until_workers(self, count: int) -> None:
        """Until so many living workers have told that they are ready."""
        redis = lazy_redis(self.redis_url)
        try:
            async with asyncio.timeout(START_SECONDS):
                while self._living(await WorkerRegistry(redis).ready()) < count:
                    await asyncio.sleep(0.2)
        finally:
            await redis.aclose()

    def _living(self, workers: Iterable[str]) -> int:
        pids = {process.pid for process in self.processes.values() if process.poll() is None}
        return sum(int(worker.split(":")[1]) in pids for worker in workers)

    def order(self, link: str, do: str, seconds: float, by: float = 0.0) -> None:
        self.points.note("link", link=link, do=do, seconds=seconds)
        pipe = self.processes["proxy"].stdin
        assert pipe is not None
        pipe.write(json.dumps({"link": link, "do": do, "s": seconds, "by": by}).encode() + b"\n")
        pipe.flush()

    def fail_bucket(self, share: float, status: int, seconds: float) -> None:
        self.points.note("bucket", share=share, status=status, seconds=seconds)
        body = json.dumps({"share": share, "status": status, "s": seconds}).encode()
        urllib.request.urlopen(f"{self.s3_endpoint}/_faults", data=body, timeout=10).close()

    async def tend(self) -> None:
        """Start again whatever was killed, and wake whoever stopped itself, until cancelled."""
        reader = Failpoints(self.folder / "faults", "conductor")
        while True:
            for name, process in list(self.processes.items()):
                if process.poll() is not None and name != "redis":
                    self._note_exit(name, process)
                    self.start(name)
            for event in reader.newer_events():
                if event["what"] == "stop" and "point" in event:
                    asyncio.get_running_loop().call_later(event["seconds"], self.wake, event["pid"])
            await asyncio.sleep(0.1)

    def wake(self, pid: int) -> None:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            return

    def _note_exit(self, name: str, process: subprocess.Popen[bytes]) -> None:
        if process.returncode == -signal.SIGKILL or process.pid in self.expected_exits:
            return
        self.unexpected.append(f"{name} ended by itself with {process.returncode}")

    async def restart_redis(self, away_s: float) -> None:
        self.kill("redis")
        await asyncio.to_thread(self.processes["redis"].wait)
        await asyncio.sleep(away_s)
        self.start("redis")
        await self._until(lambda: listens(self.ports["redis"]))

    def gateways_listen(self) -> bool:
        return all(
            listens(port) for name, port in self.ports.items() if name.startswith("gateway-") and name[8:].isdigit()
        )

    def is_ready(self, gateway: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[gateway]}/readyz", timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """End everything; workers are asked first, so that they tidy up."""
        workers = [process for name, process in self.processes.items() if name.startswith(("worker", "gateway"))]
        for process in workers:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        deadline = time.monotonic() + 15
        for process in workers:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        for process in self.processes.values():
            process.kill()
            process.wait()
            if process.stdin:
                process.stdin.close()

    def _command(self, name: str) -> tuple[list[str], dict[str, str]]:
        ports, kind = self.ports, name.partition("-")[0]
        python = [sys.executable, "-P"]
        if kind == "redis":
            folder = self.folder / "redis"
            folder.mkdir(exist_ok=True)
            command = [redis_binary(), "--port", str(ports["redis"]), "--bind", "127.0.0.1", "--dir", str(folder)]
            command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
            return [*command, "--maxmemory-policy", "noeviction"], {}
        if kind == "bucket":
            return [*python, str(HERE / "bucket.py"), str(ports["s3-behind"])], {}
        if kind == "proxy":
            behind = {"s3": ports["s3-behind"]}
            links = [f"{link}={ports[link]}:{behind.get(link, ports['redis'])}" for link in LINKS]
            return [*python, str(HERE / "proxy.py"), *links], {}
        redis = {"COGVIDEOX_REDIS_URL": f"redis://127.0.0.1:{ports[f'{kind}-redis']}/0"}
        if kind == "gateway":
            return [*python, str(HERE / "gateway.py")], redis | {"COGVIDEOX_PORT": str(ports[name])}
        times = [str(self.shape.engine_job_s), str(self.shape.finisher_job_s)]
        return list(self.shape.worker_command) or [*python, str(HERE / "worker.py"), *times], redis

    def _environment(self) -> dict[str, str]:
        return {
            "PYTHONPATH": str(ROOT),
            FOLDER: str(self.folder / "faults"),
            "FAULTS_SEEDED": self.shape.seeded,
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "not-a-secret",
            "COGVIDEOX_STATE": str(self.folder / "state"),
            "COGVIDEOX_STORE": "s3",
            "COGVIDEOX_S3_BUCKET": BUCKET,
            "COGVIDEOX_S3_ENDPOINT": f"http://127.0.0.1:{self.ports['s3']}",
            "COGVIDEOX_S3_PATH_STYLE": "true",
            "COGVIDEOX_LEASE_SECONDS": str(self.shape.lease_s),
            "COGVIDEOX_CHECKPOINT_SECONDS": "0.5",
            "COGVIDEOX_SCRATCH_MIN_FREE_MB": "1",
            "COGVIDEOX_LOG_LEVEL": "WARNING",
            "OMP_NUM_THREADS": "1",
        } | self.shape.environment

    def audit_settings(self) -> AuditSettings:
        os.environ.update({name: value for name, value in self._environment().items() if name.startswith("AWS_")})
        return AuditSettings(
            state=self.folder / "state", store="s3", s3_bucket=BUCKET, s3_endpoint=self.s3_endpoint, s3_path_style=True
        )

    def _make_bucket(self) -> None:
        request = urllib.request.Request(f"{self.s3_endpoint}/{BUCKET}", method="PUT")
        urllib.request.urlopen(request, timeout=20).close()

    async def _make_key(self) -> str:
        from server.keys import KeyRing

        redis = lazy_redis(self.redis_url)
        try:
            return await KeyRing(redis, secret_file(self.folder / "state" / "master.key")).create("acme", "faults")
        finally:
            await redis.aclose()

    async def _until(self, met: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not await asyncio.to_thread(met):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the house did not start; its logs are in {self.folder}")
            await asyncio.sleep(0.05)
