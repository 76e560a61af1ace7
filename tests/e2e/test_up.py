"""The promises of the one command: signals, orphans, restarts, locks."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from video_jobs.job import JobRecord, JobState, Stage
from video_jobs.queue import lazy_redis
from video_jobs.store import JobStore

pytestmark = [pytest.mark.e2e, pytest.mark.worker, pytest.mark.timeout(300)]


def call(ready: dict[str, Any], path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    request = urllib.request.Request(
        ready["base_url"] + path,
        data=json.dumps(body).encode() if body else None,
        headers={"Authorization": ready["api_key"]},
    )
    with urllib.request.urlopen(request) as reply:
        read: dict[str, Any] = json.load(reply)
        return read


def submit(ready: dict[str, Any], **body: Any) -> str:
    asked = {"model": "cogvideox-2", "prompt": "a cat", "size": "720x480", **body}
    return str(call(ready, "videos/generations", asked)["id"])


def ended(ready: dict[str, Any], task: str) -> dict[str, Any]:
    while (result := call(ready, f"async-result/{task}"))["task_status"] == "PROCESSING":
        time.sleep(0.2)
    return result


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def all_pids(ready: dict[str, Any]) -> list[int]:
    pids = [ready["pids"]["redis"], ready["pids"]["gateway"], *ready["pids"]["workers"]]
    return [*pids, *(child for pid in pids for child in children_of(pid))]


def children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()]


def gone(pids: list[int], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(is_alive(pid) for pid in pids)


def engine_of(ready: dict[str, Any]) -> int:
    for pid in children_of(ready["pids"]["workers"][0]):
        if b"gpu_worker.engine" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    raise AssertionError("the worker has no engine")


def test_two_kills_of_the_real_engine_still_end_in_one_success(service: Any) -> None:
    killed: set[int] = set()
    task = submit(service.ready, quality="quality", duration=10)
    while len(killed) < 2:
        wait_until_denoising(service.ready, task, deaths=len(killed))
        engine = new_engine(service.ready, killed)
        os.kill(engine, signal.SIGKILL)
        killed.add(engine)
        assert gone([engine], 10)

    assert ended(service.ready, task)["task_status"] == "SUCCESS"
    assert engine_of(service.ready) not in killed
    attempts = asyncio.run(recorded(service.ready, task)).attempts
    assert [each.ended_by for each in attempts] == ["engine_died", "engine_died", "succeeded"]


async def recorded(ready: dict[str, Any], task: str) -> JobRecord:
    redis = lazy_redis(f"unix://{ready['state']}/redis/redis.sock")
    try:
        record = await JobStore(redis).get(task)
        assert record is not None
        return record
    finally:
        await redis.aclose()


async def test_record_tells_how_the_clip_was_made(service: Any) -> None:
    task = await asyncio.to_thread(submit, service.ready, with_audio=True, user_id="user-1")
    assert (await asyncio.to_thread(ended, service.ready, task))["task_status"] == "SUCCESS"

    record = await recorded(service.ready, task)

    made = record.rendered
    assert (made.prompt, made.prompt_by, record.job.user_id) == ("a cat", "caller", "user-1")
    assert made.weights_revision.startswith("tiny-2-")
    assert len(made.weights_checksum) == 64
    assert made.preset_digest == record.job.plan.digest()
    assert made.engine_version.startswith("torch")
    assert {"text", "denoise", "decode", "finish", "upload"} <= set(made.stage_seconds)
    assert made.stages["sound"] == "unavailable"
    assert "watermark" not in made.stages
    assert record.attempts[-1].ended_by == "succeeded"


def new_engine(ready: dict[str, Any], killed: set[int]) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(AssertionError, OSError):
            if (engine := engine_of(ready)) not in killed:
                return engine
        time.sleep(0.05)
    raise AssertionError("the engine was not started again")


def wait_until_denoising(ready: dict[str, Any], task: str, deaths: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        record = asyncio.run(recorded(ready, task))
        assert not record.state.is_final, "the job ended before its engine could be killed"
        if (record.state, record.stage, record.engine_deaths) == (JobState.RUNNING, Stage.DENOISE, deaths):
            return
        time.sleep(0.02)
    raise AssertionError("the job never came to denoising")


def test_second_up_on_the_same_state_is_told_who_holds_it(service: Any) -> None:
    second = subprocess.run(
        [sys.executable, "-P", "-m", "cogvideox_server", "up", "--port", "0", "--state", service.ready["state"]],
        capture_output=True,
        text=True,
    )

    assert second.returncode == 1
    assert second.stderr.count("\n") == 1
    assert str(service.process.pid) in second.stderr
