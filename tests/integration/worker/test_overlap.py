"""The device never waits for finishing, encoding or uploading, nor for the next job's picture and prompt."""

import asyncio
import sys
from pathlib import Path

import pytest

from gpu_worker.engine.process import Child
from gpu_worker.task import Workshop
from gpu_worker.worker import VideoWorker
from tests.integration.worker.shop import STANDIN
from video_jobs.store import JobStore

JOBS, RENDER_SECONDS, FINISH_STEP_SECONDS, REWRITE_SECONDS = 20, 2.0, 0.1, 0.2
DEVICE = STANDIN.with_name("device.py")


class SlowRewriter:
    """Answers as slowly as a model behind an endpoint may."""

    name = "slow"

    async def rewrite(self, prompt: str) -> str:
        await asyncio.sleep(REWRITE_SECONDS)
        return prompt.upper()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("rewriter", [None, SlowRewriter()])
async def test_twenty_queued_jobs_keep_the_device_busy(
    rewriter: SlowRewriter | None, store: JobStore, shop: Workshop, queue_job, wait, tmp_path: Path
) -> None:
    shop.rewriter = rewriter  # type: ignore[assignment]
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
