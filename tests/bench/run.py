"""`make bench`: what the house costs, measured in one run on this machine. `--write` keeps the table."""

import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from cogvideox_server.redis import redis_binary, redis_command, socket_path
from cogvideox_server.up import _free_port
from tests.integration.worker.latency import enqueue_to_start_ms
from video_jobs.catalogue import load_catalogue
from video_jobs.job import Job, VideoSpec
from video_jobs.links import secret_file
from video_jobs.queue import lazy_redis
from video_jobs.store import JobStore

CALLS = 400
Rows = list[tuple[str, str, str]]


def new_job(job_id: str) -> Job:
    spec = VideoSpec(model="cogvideox-2", prompt="a cat", width=720, height=480, fps=30, duration_s=5, seed=1)
    plan = load_catalogue().plan(spec, "tiny")
    return Job(
        **{"id": job_id, "request_id": job_id, "body_hash": "x", "tenant": "acme", "key_id": "k", "route": "tiny"},
        spec=spec,
        plan=plan,
        cost_s=1,
    )


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int, which: str = "VmRSS") -> float:
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith(which))
    return int(line.split()[1]) / 1024


def most_memory_mb(worker: int, child: str) -> float:
    """Of the worker's child of this name, since it began."""
    pids = [int(pid) for pid in Path(f"/proc/{worker}/task/{worker}/children").read_text().split()]
    named = next(pid for pid in pids if child in Path(f"/proc/{pid}/cmdline").read_text().split("\0"))
    return memory_mb(named, "VmHWM")


def call(url: str, key: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    request = urllib.request.Request(
        url, data=json.dumps(body).encode() if body else None, headers={"Authorization": key}
    )
    with urllib.request.urlopen(request) as reply:
        return dict(json.load(reply))


def wait_for(url: str) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(url).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{url} does not answer")


def cost_of(pid: int, post: str, get: str, key: str) -> tuple[float, float]:
    """CPU milliseconds of the process for each POST and each GET."""
    body = {"model": "cogvideox-2", "prompt": "a cat", "size": "720x480"}
    task = call(post, key, body)["id"]
    started = cpu_seconds(pid)
    for _ in range(CALLS):
        call(post, key, body)
    posted = cpu_seconds(pid)
    for _ in range(CALLS):
        call(f"{get}/{task}", key)
    return (posted - started) / CALLS * 1e3, (cpu_seconds(pid) - posted) / CALLS * 1e3


async def latency(url: str, state: Path) -> Rows:
    environment = os.environ | {"COGVIDEOX_REDIS_URL": url, "COGVIDEOX_STATE": str(state)}
    script = str(ROOT / "tests" / "standins" / "worker.py")
    worker = subprocess.Popen(
        [sys.executable, script, "0.001", "0.001"],
        env=environment | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    redis = lazy_redis(url)
    store, ids = JobStore(redis), iter(range(10**24, 10**25))

    async def queue_job() -> Job:
        job = new_job(str(next(ids)))
        await store.accept(job)
        return job

    try:
        await enqueue_to_start_ms(store, queue_job, 3)
        median = await enqueue_to_start_ms(store, queue_job, 50)
    finally:
        worker.terminate()
        worker.wait()
        await redis.flushall()
        await redis.aclose()
    return [("enqueue to start on an idle worker, median of 50 (stand-in engine)", f"{median:.1f} ms", "under 20 ms")]


def gateway(url: str, state: Path) -> Rows:
    from server.keys import KeyRing

    async def make_key() -> str:
        redis = lazy_redis(url)
        try:
            return await KeyRing(redis, secret_file(state / "master.key")).create("acme", "bench")
        finally:
            await redis.aclose()

    key, port, bare_port = asyncio.run(make_key()), _free_port("127.0.0.1"), _free_port("127.0.0.1")
    environment = os.environ | {"COGVIDEOX_REDIS_URL": url, "COGVIDEOX_STATE": str(state), "COGVIDEOX_PORT": str(port)}
    ours = subprocess.Popen([sys.executable, "-P", "-m", "server"], env=environment)
    bare = subprocess.Popen(
        [sys.executable, "tests/bench/bare.py", url, str(bare_port)], stdin=subprocess.PIPE, cwd=ROOT
    )
    assert bare.stdin is not None
    bare.stdin.write(new_job("1").model_dump_json().encode())
    bare.stdin.close()
    base = f"http://127.0.0.1:{port}"
    wait_for(f"{base}/readyz")
    wait_for(f"http://127.0.0.1:{bare_port}/1")
    idle = memory_mb(ours.pid)
    torch = "torch" in Path(f"/proc/{ours.pid}/maps").read_text()
    api = f"{base}/api/paas/v4"
    post, get = cost_of(ours.pid, f"{api}/videos/generations", f"{api}/async-result", key)
    bare_post, bare_get = cost_of(bare.pid, f"http://127.0.0.1:{bare_port}/p", f"http://127.0.0.1:{bare_port}", "x")
    for process in (ours, bare):
        process.terminate()
        process.wait()
    return [
        (
            "gateway CPU per POST, against a bare ASGI app with the same Redis calls",
            f"{post:.2f} ms, {post / bare_post:.1f}x",
            "under 5x",
        ),
        ("gateway CPU per GET, likewise", f"{get:.2f} ms, {get / bare_get:.1f}x", "under 5x"),
        ("gateway memory when idle", f"{idle:.0f} MB, torch {'loaded' if torch else 'not loaded'}", "under 150 MB"),
    ]


def render(state: Path) -> Rows:
    rows: Rows = []
    with up(state) as (ready, seconds):
        rows += [("`up` to ready, first start", f"{seconds:.1f} s", "")]
        for size in ("720x480", "1920x1080"):
            rows += clip(ready, state, size)
        for child, aim in (("engine", "under 1024 MB"), ("finish", "")):
            most = most_memory_mb(ready["pids"]["workers"][0], f"gpu_worker.{child}")
            rows += [(f"most memory of `gpu_worker.{child}` so far", f"{most:.0f} MB", aim)]
    with up(state) as (_, seconds):
        rows += [("`up` to ready, started again", f"{seconds:.1f} s", "under 15 s")]
    return rows


@contextmanager
def up(state: Path) -> Iterator[tuple[dict[str, Any], float]]:
    """A running `up`, and how long it took to be ready."""
    started = time.monotonic()
    command = [sys.executable, "-P", "-m", "cogvideox_server", "up", "--json", "--port", "0", "--state", str(state)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline()), time.monotonic() - started
    finally:
        process.terminate()
        process.wait()


def clip(ready: dict[str, Any], state: Path, size: str) -> Rows:
    url, key = ready["base_url"], ready["api_key"]
    started = time.monotonic()
    task = call(f"{url}videos/generations", key, {"model": "cogvideox-2", "prompt": "a cat", "size": size, "fps": 30})[
        "id"
    ]
    while call(f"{url}async-result/{task}", key)["task_status"] == "PROCESSING":
        time.sleep(0.1)
    total = time.monotonic() - started

    async def stages() -> dict[str, float]:
        redis = lazy_redis(f"unix://{state / 'redis' / 'redis.sock'}")
        record = await JobStore(redis).get(task)
        await redis.aclose()
        assert record is not None
        return record.rendered.stage_seconds

    spent = asyncio.run(stages())
    told = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in spent.items() if "." not in stage)
    share = spent["finish.interpolate"] / total
    return [
        (
            f"POST to SUCCESS, tiny, 5 s, {size}, 30 fps",
            f"{total:.1f} s ({told})",
            "under 30 s" if size == "720x480" else "",
        ),
        (f"share of interpolation at {size}", f"{share:.0%}", ""),
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "bench"
        state.mkdir()
        path = socket_path(state)
        redis = subprocess.Popen(redis_command(redis_binary(), state, path), stdout=subprocess.DEVNULL)
        while not path.exists():
            time.sleep(0.02)
        url = f"unix://{path}"
        rows = asyncio.run(latency(url, state)) + gateway(url, state)
        redis.terminate()
        redis.wait()
        rows += render(Path(folder) / "up")
    table = ["| measure | here | aim |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)]
    head = f"`make bench` on {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}"
    text = f"# The house\n\n{head}. One run; timings on shared machines are noisy.\n\n" + "\n".join(table) + "\n"
    print(text)
    if "--write" in sys.argv:
        (ROOT / "docs" / "benchmarks" / "house.md").write_text(text)


if __name__ == "__main__":
    main()
