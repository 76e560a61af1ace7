"""Real engines in real workers: the clip of an interrupted job is the clip of one that was not, byte for byte."""

import asyncio
import signal

import pytest

from tests.integration.worker.conftest import REAL
from video_jobs.job import JobRecord, JobState, Quality, Stage

pytest.importorskip("torch")
pytestmark = [pytest.mark.worker, pytest.mark.timeout(600)]

START_SECONDS = 240.0
SPEC = {"width": 64, "height": 64, "quality": Quality.QUALITY, "seed": 5}


def is_denoising(record: JobRecord) -> bool:
    return record.stage is Stage.DENOISE and record.progress > 0.2


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL], ids=["drained", "killed"])
async def test_interrupted_job_ends_with_the_bytes_of_one_that_was_not(
    sign: signal.Signals, store, queue_job, start_worker, wait
) -> None:
    first = start_worker(REAL, checkpoint_seconds=0.2)
    whole = await wait(store, await queue_job(**SPEC), lambda record: record.state.is_final, START_SECONDS)
    job = await queue_job(**SPEC)
    left = await wait(store, job, lambda record: is_denoising(record) and record.checkpoint, START_SECONDS)

    first.process.send_signal(sign)
    await asyncio.to_thread(first.process.wait, 20)
    start_worker(REAL)
    record = await wait(store, job, lambda record: record.state.is_final, START_SECONDS)

    assert (whole.state, record.state) == (JobState.SUCCEEDED, JobState.SUCCEEDED)
    assert int(record.rendered.stages["resumed"].removeprefix("step ")) >= left.checkpoint_step
    assert "resumed" not in whole.rendered.stages
    assert record.video.sha256 == whole.video.sha256
    assert len(record.attempts) == 2
