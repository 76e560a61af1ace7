"""The device never waits for finishing, encoding or uploading: only for the next job's claim."""

import asyncio
import sys
from pathlib import Path

import pytest

from gpu_worker.engine.process import Child
from gpu_worker.task import Workshop
from gpu_worker.worker import VideoWorker
from tests.integration.worker.shop import STANDIN
from video_jobs.store import JobStore

JOBS, RENDER_SECONDS, FINISH_STEP_SECONDS = 20, 2.0, 0.1
DEVICE = STANDIN.with_name("device.py")


@pytest.mark.timeout(300)
async def test_twenty_queued_jobs_keep_the_device_busy(
    store: JobStore, shop: Workshop, queue_job, wait, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    said = ["--seconds", str(RENDER_SECONDS), "--diary", str(diary)]
    shop.engine = Child("engine", [sys.executable, str(DEVICE), *said])
    shop.finisher = Child("finisher", [sys.executable, str(STANDIN), "finisher", "--step-s", str(FINISH_STEP_SECONDS)])
    jobs = [await queue_job() for _ in range(JOBS)]

    worker = VideoWorker(shop, store.redis, ["tiny"])
    working = asyncio.create_task(worker.main())
    for job in jobs:
        await wait(store, job, lambda record: record.state.is_final, limit_s=120)
    worker.drain(5)
    await working

    spans = sorted(tuple(map(float, line.split())) for line in diary.read_text().splitlines())
    busy = sum(end - began for began, end in spans)
    share = busy / (spans[-1][1] - spans[0][0])
    print(f"busy {share:.4f}")
    assert len(spans) == JOBS
    assert share >= 0.99
