"""The worker as a process, with stand-in children, on a real Redis."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.files import below
from tests.integration.worker.latency import enqueue_to_start_ms
from video_jobs.errors import JobCancelled, PoisonJob
from video_jobs.job import JobRecord, JobState, Stage
from video_jobs.verdicts import CancelVerdict


def is_rendering(record: JobRecord) -> bool:
    return record.stage is Stage.DENOISE and record.progress > 0


def is_finishing(record: JobRecord) -> bool:
    return record.stage is Stage.FINISH


def successes(record: JobRecord) -> int:
    return sum(attempt.ended_by == "succeeded" for attempt in record.attempts)


async def test_claimed_job_ends_with_its_video_in_the_store(
    store, queue_job, start_worker, final, tmp_path: Path
) -> None:
    start_worker()
    job = await queue_job(with_audio=True)

    record = await final(store, job)

    assert record.state is JobState.SUCCEEDED
    assert record.video is not None
    assert record.video.key.startswith(f"videos/{job.id}/1-")
    video = tmp_path / "results" / record.video.key
    assert video.read_text() == f"{job.id} {record.token}"
    assert record.rendered.weights_revision == "stand-in"
    assert record.rendered.preset_digest == job.plan.digest()
    assert record.rendered.stages == {"denoise": "stand-in", "finish": "stand-in", "sound": "unavailable"}
    assert {"denoise", "finish", "upload"} <= record.rendered.stage_seconds.keys()


async def test_scratch_is_empty_after_a_job(store, queue_job, start_worker, final, tmp_path: Path) -> None:
    start_worker()
    await final(store, await queue_job())

    async with asyncio.timeout(2):
        while any(path.parent != tmp_path / "scratch" for path in below(tmp_path / "scratch")):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("role", "reached"), [("engine", is_rendering), ("finisher", is_finishing)])
async def test_killed_child_costs_an_attempt_not_the_job(
    role, reached, store, queue_job, start_worker, wait, final
) -> None:
    worker = start_worker(engine_step_s=0.1, finisher_step_s=0.1)
    job = await queue_job()
    await wait(store, job, reached)
    child = worker.child(role)
    assert child is not None

    os.kill(child, signal.SIGKILL)
    record = await final(store, job)

    assert record.state is JobState.SUCCEEDED
    assert successes(record) == 1
    assert record.engine_deaths == 1
    assert worker.process.poll() is None


async def test_killed_worker_takes_its_children_along_and_loses_no_job(
    store, queue_job, start_worker, wait, final, alive
) -> None:
    first = start_worker(engine_step_s=0.1)
    job = await queue_job()
    await wait(store, job, is_rendering)
    children = first.children()
    assert len(children) == 2

    first.kill()
    start_worker()
    record = await final(store, job)

    assert record.state is JobState.SUCCEEDED
    assert successes(record) == 1
    assert not any(alive(pid) for pid in children)


async def test_cancel_stops_a_running_job_and_spares_the_engine(store, queue_job, start_worker, wait, final) -> None:
    worker = start_worker(engine_step_s=0.1)
    job = await queue_job()
    await wait(store, job, is_rendering)
    engine = worker.child("engine")

    assert await store.cancel(job.tenant, job.id) is CancelVerdict.ASKED
    async with asyncio.timeout(1):
        record = await final(store, job)

    assert (record.state, record.error_code) == (JobState.CANCELLED, JobCancelled.code)
    assert worker.child("engine") == engine
    assert (await final(store, await queue_job())).state is JobState.SUCCEEDED


async def test_told_to_stop_the_worker_hands_its_job_back_uncharged(
    store, queue_job, start_worker, wait, final
) -> None:
    worker = start_worker(engine_step_s=0.1)
    job = await queue_job()
    await wait(store, job, is_rendering)

    worker.process.terminate()
    assert await asyncio.to_thread(worker.process.wait, 5) == 0
    record = await wait(store, job, lambda record: record.state is JobState.QUEUED)
    assert (record.engine_deaths, record.lost_leases) == (0, 0)

    start_worker()
    assert (await final(store, job)).state is JobState.SUCCEEDED


async def test_poison_job_fails_and_its_neighbour_succeeds(store, queue_job, start_worker, final) -> None:
    start_worker()
    poison, neighbour = await queue_job(prompt="die"), await queue_job()

    record = await final(store, poison)

    assert (record.state, record.error_code) == (JobState.FAILED, PoisonJob.code)
    assert (await final(store, neighbour)).state is JobState.SUCCEEDED


async def test_final_error_fails_at_once(store, queue_job, start_worker, final) -> None:
    start_worker()

    record = await final(store, await queue_job(prompt="fail:prompt_not_understood"))

    assert (record.state, record.error_code) == (JobState.FAILED, "prompt_not_understood")
    assert len(record.attempts) == 1


async def test_next_job_renders_while_the_last_is_finished(store, queue_job, start_worker, wait) -> None:
    start_worker(finisher_step_s=0.3)
    first, second = await queue_job(), await queue_job()
    await wait(store, first, is_finishing)

    await wait(store, second, is_rendering)

    record = await store.get(first.id)
    assert record is not None
    assert record.state is JobState.RUNNING


async def test_idle_worker_starts_a_job_within_milliseconds(store, queue_job, start_worker, final) -> None:
    start_worker(engine_step_s=0.001, finisher_step_s=0.001)
    await final(store, await queue_job())

    # Far above the aim of 20 ms: this test must hold on a machine that does other things too.
    assert await enqueue_to_start_ms(store, queue_job, 7) < 150
