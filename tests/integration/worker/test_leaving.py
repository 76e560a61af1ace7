"""Workers that stop, die or run full: what they held goes on elsewhere."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from gpu_worker.worker import VideoWorker
from gpu_worker.workshop import Workshop
from tests.files import below
from tests.integration.worker.shop import claimed_run, close_shop, open_shop
from tests.ports import free_port
from video_jobs.job import Claim, JobRecord, JobState, Stage
from video_jobs.store import JobStore
from video_jobs.workers import WorkerRegistry


def is_denoising(record: JobRecord) -> bool:
    return record.stage is Stage.DENOISE and record.progress > 0.02


def worker_of(record: JobRecord) -> str:
    return record.attempts[-1].worker


async def test_job_of_a_stopped_worker_goes_on_within_seconds_from_where_it_was(
    store, queue_job, start_worker, wait, final
) -> None:
    workers = {str(worker.process.pid): worker for worker in (start_worker(engine_step_s=0.3) for _ in range(2))}
    await both_ready(WorkerRegistry(store.redis))
    job = await queue_job()
    first = workers[worker_of(await wait(store, job, is_denoising)).split(":")[1]]

    told = time.monotonic()
    first.process.terminate()
    again = await wait(store, job, lambda record: len(record.attempts) == 2)
    waited_s = time.monotonic() - told
    record = await final(store, job)

    assert waited_s < 5
    assert again.attempts[0].ended_by == "drained"
    assert worker_of(record) != again.attempts[0].worker
    assert record.state is JobState.SUCCEEDED
    assert record.rendered.stages["resumed"] == f"step {again.checkpoint_step}"
    assert (record.engine_deaths, record.lost_leases) == (0, 0)
    assert await asyncio.to_thread(first.process.wait, 20) == 0


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
async def test_whole_family_told_to_stop_still_leaves_a_checkpoint(
    sign: signal.Signals, store, queue_job, start_worker, wait
) -> None:
    """As systemd does it, and a terminal's Ctrl-C."""
    worker = start_worker(engine_step_s=0.3)
    job = await queue_job()
    await wait(store, job, is_denoising)

    for pid in (*worker.children(), worker.process.pid):
        os.kill(pid, sign)
    left = await wait(store, job, lambda record: record.state is JobState.QUEUED)

    assert left.attempts[0].ended_by == "drained"
    assert left.checkpoint_step is not None
    assert left.engine_deaths == 0
    assert await asyncio.to_thread(worker.process.wait, 20) == 0


async def both_ready(registry: WorkerRegistry) -> None:
    async with asyncio.timeout(60):
        while len(await registry.ready()) < 2:
            await asyncio.sleep(0.02)


async def test_job_of_a_killed_worker_goes_on_from_its_last_checkpoint(
    store, queue_job, start_worker, wait, final, tmp_path: Path
) -> None:
    first = start_worker(engine_step_s=0.3, checkpoint_seconds=0.5)
    job = await queue_job()
    left = await wait(store, job, lambda record: record.checkpoint is not None)

    first.kill()
    start_worker()
    record = await final(store, job)

    assert record.state is JobState.SUCCEEDED
    assert int(record.rendered.stages["resumed"].removeprefix("step ")) >= left.checkpoint_step
    assert record.lost_leases == 1
    async with asyncio.timeout(5):
        while any(path.suffix == ".safetensors" for path in below(tmp_path / "results" / "checkpoints")):
            await asyncio.sleep(0.05)


async def test_worker_with_a_full_disk_says_so_and_takes_no_job(
    store, queue_job, start_worker, final, tmp_path: Path
) -> None:
    port = free_port()
    start_worker(scratch_min_free_mb=1 << 40, worker_port=port, scratch=tmp_path / "elsewhere")
    job = await queue_job()
    answer = await readiness(port)
    await asyncio.sleep(0.5)
    waiting = await store.get(job.id)
    start_worker()

    assert answer.status_code == 503
    assert answer.text.startswith("not ready: scratch disk full: ")
    assert (waiting.state, waiting.attempts) == (JobState.QUEUED, ())
    assert (await final(store, job)).state is JobState.SUCCEEDED


async def readiness(port: int) -> httpx2.Response:
    async with asyncio.timeout(10), httpx2.AsyncClient() as client:
        while True:
            try:
                return await client.get(f"http://127.0.0.1:{port}/readyz")
            except httpx2.TransportError:
                await asyncio.sleep(0.05)


class SlowToAnswer(JobStore):
    """Claims at once, and is long about saying so."""

    async def claim(self, worker: str, routes: object, nonce: str | None = None, adapter: str = "") -> Claim | None:
        claim = await super().claim(worker, routes, nonce, adapter)  # type: ignore[arg-type]
        # So long that the loops are told to end more than once.
        await asyncio.sleep(1.5)
        return claim


class Forgetful(JobStore):
    """Loses every other answer to a claim on the way back."""

    lost = 0

    async def claim(self, worker: str, routes: object, nonce: str | None = None, adapter: str = "") -> Claim | None:
        claim = await super().claim(worker, routes, nonce, adapter)  # type: ignore[arg-type]
        if claim is not None and self.lost % 2 == 0:
            self.lost += 1
            raise ConnectionError("the answer was lost")
        return claim


@pytest.fixture
async def shop(store: JobStore, tmp_path: Path) -> AsyncIterator[Workshop]:
    shop = open_shop(store, tmp_path)
    await asyncio.gather(shop.engine.start(), shop.finisher.start())
    yield shop
    await close_shop(shop)


async def test_job_given_to_a_worker_that_was_just_told_to_stop_is_handed_back(
    shop: Workshop, store, redis_client, queue_job, wait
) -> None:
    shop.store = SlowToAnswer(redis_client, lease_s=60)
    worker = VideoWorker(shop, redis_client, ["tiny"])
    working = asyncio.create_task(worker.main())
    job = await queue_job()
    await wait(store, job, lambda record: record.state is JobState.RUNNING)

    worker.drain(5)
    async with asyncio.timeout(5):
        await working

    record = await store.get(job.id)
    assert (record.state, record.attempts[0].ended_by, record.lost_leases) == (JobState.QUEUED, "drained", 0)


async def test_claim_whose_answer_was_lost_is_asked_for_again(shop: Workshop, redis_client, queue_job, final) -> None:
    shop.store = Forgetful(redis_client, lease_s=60)
    worker = VideoWorker(shop, redis_client, ["tiny"])
    working = asyncio.create_task(worker.main())
    record = await final(shop.store, await queue_job())
    worker.drain(1)
    await working

    assert (record.state, len(record.attempts)) == (JobState.SUCCEEDED, 1)


async def test_job_taken_in_the_very_moment_of_the_stop_is_handed_back(
    shop: Workshop, store, redis_client, queue_job
) -> None:
    worker, job = VideoWorker(shop, redis_client, ["tiny"]), await queue_job(prompt="hang")
    claim = await store.claim("w1", ["tiny"])

    worker.drain(2)
    worker._take(claim)
    async with asyncio.timeout(10):
        await asyncio.gather(*worker.tasks.values())

    record = await store.get(job.id)
    assert (record.state, record.attempts[0].ended_by) == (JobState.QUEUED, "drained")


async def test_drain_does_not_wait_for_an_engine_that_starts_anew(shop: Workshop, store, queue_job, wait) -> None:
    job = await queue_job()
    async with shop.rendering:
        run = await claimed_run(shop)
        running = asyncio.create_task(run.run())
        await asyncio.sleep(0.5)
        await shop.engine.kill()
        shop.engine._failures = 7
    await asyncio.sleep(0.2)

    run.drain(1)
    async with asyncio.timeout(10):
        await running

    record = await store.get(job.id)
    assert (record.state, record.attempts[0].ended_by) == (JobState.QUEUED, "drained")


async def test_worker_whose_loop_breaks_ends_and_says_why(
    shop: Workshop, redis_client, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = VideoWorker(shop, redis_client, ["tiny"])

    async def breaks() -> None:
        raise ValueError("unforeseen")

    monkeypatch.setattr(worker, "_announces", breaks)

    with pytest.raises(ValueError, match="unforeseen"):
        await asyncio.wait_for(worker.main(), 20)
    assert worker.is_stopping
