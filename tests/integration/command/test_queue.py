"""`cogvideox-server queue` on a real Redis, as an operator types it."""

import json
import subprocess
import sys
from pathlib import Path

from video_jobs.catalogue import load_catalogue
from video_jobs.job import Job, VideoSpec
from video_jobs.queue import open_redis
from video_jobs.store import JobStore


def run(redis_url: str, state: Path, *args: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-P", "-m", "cogvideox_server", "queue", *args, "--redis-url", redis_url]
    return subprocess.run([*command, "--state", str(state)], capture_output=True, text=True)


async def queue_job(redis_url: str) -> str:
    spec = VideoSpec(model="cogvideox-2", prompt="a cat", width=720, height=480, fps=30, duration_s=5, seed=1)
    job = Job.model_validate(
        {"id": "1" * 25, "request_id": "r", "body_hash": "x", "tenant": "acme", "key_id": "k", "route": "tiny"}
        | {"spec": spec, "plan": load_catalogue().plan(spec, "tiny"), "cost_s": 1}
    )
    redis = await open_redis(redis_url)
    await JobStore(redis).accept(job)
    await redis.aclose()
    return job.id


async def test_operator_looks_pauses_cancels_and_retries(redis_url: str, tmp_path: Path) -> None:
    job_id = await queue_job(redis_url)

    assert json.loads(run(redis_url, tmp_path, "list", "--json").stdout)["id"] == job_id
    assert json.loads(run(redis_url, tmp_path, "show", job_id).stdout)["job"]["tenant"] == "acme"
    assert run(redis_url, tmp_path, "pause").returncode == 0
    told = json.loads(run(redis_url, tmp_path, "status", "--json").stdout)
    assert (told["waiting"], list(told["paused"])) == ({"1:tiny": 1}, ["*"])
    assert run(redis_url, tmp_path, "cancel", job_id).stdout == f"{job_id}\tcancelled\n"
    assert run(redis_url, tmp_path, "retry", job_id).returncode == 1
    assert "cancelled" in run(redis_url, tmp_path, "list", "ended").stdout


def test_unknown_job_and_absent_redis_are_one_line(redis_url: str, tmp_path: Path) -> None:
    for said in (
        run(redis_url, tmp_path, "show", "2" * 25),
        run(redis_url, tmp_path, "retry"),
        run(f"unix://{tmp_path}/none", tmp_path, "status"),
    ):
        assert (said.returncode, said.stderr.count("\n")) == (1, 1)
