"""`cogvideox-server queue` on a real Redis, as an operator types it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from cogvideox_server.operator import operator
from video_jobs import keys
from video_jobs.catalogue import load_catalogue
from video_jobs.job import Claim, Job, JobState, Outcome, VideoSpec
from video_jobs.queue import open_redis
from video_jobs.store import JobStore
from video_jobs.verdicts import Charge

NewJob = Callable[..., Job]


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


async def test_resumed_queue_gives_its_jobs_out_again(
    redis_url: str, tmp_path: Path, store: JobStore, new_job: NewJob
) -> None:
    job = new_job()
    await store.accept(job)
    assert run(redis_url, tmp_path, "pause").stderr == "*: paused\n"
    assert await store.claim("w", ["tiny"]) is None

    said = [run(redis_url, tmp_path, "resume") for _ in range(2)]

    assert [(how.returncode, how.stderr) for how in said] == [(0, "*: resumed\n"), (0, "*: nothing to do\n")]
    claim = await store.claim("w", ["tiny"])
    assert claim is not None
    assert claim.job_id == job.id
    assert await acts(store) == [("paused", "", f"* by {operator()}"), ("resumed", "", f"* by {operator()}")]


async def test_all_that_failed_too_often_is_tried_again_at_once(
    redis_url: str, tmp_path: Path, store: JobStore, new_job: NewJob
) -> None:
    jobs = [new_job() for _ in range(3)]
    dead = jobs[1:]
    for job in jobs:
        await store.accept(job)
    await store.finish(await claim_of(store), Outcome(state=JobState.FAILED, error_code="content_refused"))
    while await store.redis.zcard(keys.DEAD) < len(dead):
        await store.requeue(await claim_of(store), "engine_died", Charge.ENGINE_DEATH)

    said = run(redis_url, tmp_path, "retry", "--dead")

    assert (said.returncode, said.stdout) == (0, "".join(f"{job.id}\tqueued\n" for job in dead))
    states = [record.state for job in jobs if (record := await store.get(job.id))]
    assert states == [JobState.FAILED, JobState.QUEUED, JobState.QUEUED]
    assert await acts(store) == [("retried", job.id, operator()) for job in dead]
    assert run(redis_url, tmp_path, "list", "dead").stdout == ""


async def claim_of(store: JobStore) -> Claim:
    claim = await store.claim("w", ["tiny"])
    assert claim is not None
    return claim


async def acts(store: JobStore) -> list[tuple[str, str, str]]:
    """What the audit says that this machine's operator did, and to which job."""
    lines = [json.loads(line) for line in await store.redis.lrange(keys.AUDIT, 0, -1)]
    return [(line["event"], line["task_id"], line["detail"]) for line in lines if operator() in line["detail"]]


def test_unknown_job_and_absent_redis_are_one_line(redis_url: str, tmp_path: Path) -> None:
    for said in (
        run(redis_url, tmp_path, "show", "2" * 25),
        run(redis_url, tmp_path, "retry"),
        run(f"unix://{tmp_path}/none", tmp_path, "status"),
    ):
        assert (said.returncode, said.stderr.count("\n")) == (1, 1)
