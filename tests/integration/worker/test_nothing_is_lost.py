"""What an attempt leaves when it ends early, and what the next one makes of it."""

import asyncio
import errno
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gpu_worker import checkpoints, patience
from gpu_worker.engine.process import Child
from gpu_worker.task import JobRun
from gpu_worker.workshop import Workshop
from tests.integration.worker.shop import attempt, claimed_run, close_shop, open_shop
from video_jobs import keys
from video_jobs.errors import EngineHung, PoisonJob, UploadFailed
from video_jobs.job import Job, JobRecord, JobState
from video_jobs.results import FolderStore
from video_jobs.store import JobStore


@pytest.fixture
async def slow_shop(store: JobStore, tmp_path: Path) -> AsyncIterator[Workshop]:
    shop = open_shop(store, tmp_path, step_s=0.15)
    await asyncio.gather(shop.engine.start(), shop.finisher.start())
    yield shop
    await close_shop(shop)


async def read(shop: Workshop, job: Job) -> JobRecord:
    record = await shop.store.get(job.id)
    assert record is not None
    return record


async def until(shop: Workshop, job: Job, met: Callable[[JobRecord], bool]) -> JobRecord:
    async with asyncio.timeout(60):
        while not met(record := await read(shop, job)):
            await asyncio.sleep(0.01)
    return record


def stored(shop: Workshop, prefix: str = "checkpoints/") -> list[str]:
    assert isinstance(shop.results, FolderStore)
    return [key for key, _ in shop.results.keys(prefix)]


def is_denoising(record: JobRecord) -> bool:
    return record.progress > 0.05


async def test_next_attempt_goes_on_from_the_newest_checkpoint(shop: Workshop, queue_job) -> None:
    shop.checkpoint_every_s = 0.0
    job = await queue_job(prompt="faint@6")
    await attempt(shop)
    first = await read(shop, job)
    await attempt(shop)

    record = await read(shop, job)
    assert (first.state, first.attempts[0].ended_by) == (JobState.QUEUED, "engine_died")
    assert first.attempts[0].detail == "engine ended with status 3, at denoise 5 of 10"
    assert first.checkpoint_step == 5
    assert (record.state, record.engine_deaths) == (JobState.SUCCEEDED, 1)
    assert record.rendered.stages["resumed"] == "step 5"
    assert stored(shop) == []


async def test_job_that_ends_leaves_no_checkpoint(shop: Workshop, queue_job) -> None:
    shop.checkpoint_every_s = 0.0
    job = await queue_job()

    await attempt(shop)

    assert (await read(shop, job)).state is JobState.SUCCEEDED
    assert stored(shop) == []
    assert (await read(shop, job)).rendered.stages["denoise"] == "stand-in"


async def test_drained_job_goes_on_elsewhere_from_the_step_it_was_stopped_at(
    slow_shop: Workshop, shop: Workshop, queue_job
) -> None:
    job = await queue_job()
    run = await claimed_run(slow_shop)
    running = asyncio.create_task(run.run())
    await until(slow_shop, job, is_denoising)

    run.drain(5.0)
    await running
    left = await read(shop, job)
    await attempt(shop)

    record = await read(shop, job)
    assert left.checkpoint_step is not None
    assert (left.state, left.attempts[0].ended_by) == (JobState.QUEUED, "drained")
    assert record.state is JobState.SUCCEEDED
    assert record.rendered.stages["resumed"] == f"step {left.checkpoint_step}"
    assert (record.engine_deaths, record.lost_leases) == (0, 0)
    assert stored(shop) == []


async def test_step_too_long_for_the_grace_is_not_waited_for(slow_shop: Workshop, queue_job) -> None:
    slow_shop.checkpoint_every_s = 0.0
    job = await queue_job(prompt="hang@4")
    run = await claimed_run(slow_shop)
    running = asyncio.create_task(run.run())
    await until(slow_shop, job, lambda record: record.checkpoint_step == 3)
    assert run._watch is not None
    key = (job.plan.digest(), next(stage for _, stage in slow_shop.pace.measured))
    slow_shop.pace.measured[key] = 60.0

    async with asyncio.timeout(3):
        run.drain(30.0)
        await running

    record = await read(slow_shop, job)
    assert (record.state, record.checkpoint_step, record.engine_deaths) == (JobState.QUEUED, 3, 0)
    assert not slow_shop.engine.is_ready


async def test_job_that_is_all_but_made_may_end_during_a_drain(slow_shop: Workshop, queue_job) -> None:
    job = await queue_job()
    run = await claimed_run(slow_shop)
    running = asyncio.create_task(run.run())
    await until(slow_shop, job, lambda record: record.stage is not None and record.stage.value == "finish")

    run.drain(20.0)
    await running

    assert (await read(slow_shop, job)).state is JobState.SUCCEEDED


async def test_hung_engine_is_ended_by_measured_steps_and_the_history_says_so(shop: Workshop, queue_job) -> None:
    shop.pace.hang_floor_s = 1.0
    job = await queue_job(prompt="hang@4")

    async with asyncio.timeout(10):
        await attempt(shop)

    record = await read(shop, job)
    assert (record.state, record.engine_deaths) == (JobState.QUEUED, 1)
    assert record.attempts[0].ended_by == EngineHung.code
    assert record.attempts[0].detail.endswith("at denoise 3 of 10")


async def test_third_hang_is_poison(shop: Workshop, queue_job) -> None:
    shop.pace.hang_floor_s = 1.0
    job = await queue_job(prompt="hang@2")

    for _ in range(3):
        await attempt(shop)

    record = await read(shop, job)
    assert (record.state, record.error_code) == (JobState.FAILED, PoisonJob.code)
    assert await shop.store.redis.zscore(keys.DEAD, job.id) is not None


async def test_engine_that_does_not_start_costs_the_job_nothing(shop: Workshop, queue_job) -> None:
    job = await queue_job()
    good, shop.engine = shop.engine, Child("engine", ["/bin/false"])
    await attempt(shop)
    left = await read(shop, job)

    shop.engine = good
    await attempt(shop)

    assert (left.state, left.engine_deaths, left.attempts[0].ended_by) == (JobState.QUEUED, 0, "child_not_started")
    assert (await read(shop, job)).state is JobState.SUCCEEDED


class AwayStore(FolderStore):
    """Refuses the first `times` writes below a prefix."""

    def __init__(self, root: Path, prefix: str, times: int) -> None:
        super().__init__(root)
        self.prefix, self.times = prefix, times

    def put(self, key: str, source: Path, content_type: str) -> None:
        if key.startswith(self.prefix) and self.times:
            self.times -= 1
            raise OSError(errno.EIO, "away")
        super().put(key, source, content_type)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "LONGEST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.01)


@pytest.mark.usefixtures("impatient")
async def test_store_that_is_away_is_waited_for_and_nothing_is_rendered_twice(
    shop: Workshop, queue_job, tmp_path: Path
) -> None:
    shop.results = AwayStore(tmp_path / "results", "videos/", times=30)
    job = await queue_job()

    await attempt(shop)

    record = await read(shop, job)
    assert (record.state, len(record.attempts)) == (JobState.SUCCEEDED, 1)
    assert len(stored(shop, "videos/")) == 2


@pytest.mark.usefixtures("impatient")
async def test_upload_waits_for_as_long_as_the_job_may_run(shop: Workshop, new_job, tmp_path: Path) -> None:
    shop.results = AwayStore(tmp_path / "results", "videos/", times=10**9)
    job = new_job(run_limit_s=1.0)
    await shop.store.accept(job)

    async with asyncio.timeout(20):
        await attempt(shop)

    assert (await read(shop, job)).attempts[0].ended_by == UploadFailed.code


@pytest.mark.usefixtures("impatient")
async def test_cancel_ends_an_upload_that_waits(shop: Workshop, queue_job, tmp_path: Path) -> None:
    shop.results = AwayStore(tmp_path / "results", "videos/", times=10**6)
    job = await queue_job()
    run = await claimed_run(shop)
    running = asyncio.create_task(run.run())
    await until(shop, job, lambda record: record.stage is not None and record.stage.value == "upload")

    await shop.store.cancel(job.tenant, job.id)
    async with asyncio.timeout(5):
        await running

    assert (await read(shop, job)).state is JobState.CANCELLED


@pytest.mark.usefixtures("impatient")
async def test_rendered_clip_outlives_its_lease_while_nobody_else_has_the_job(
    shop: Workshop, queue_job, tmp_path: Path
) -> None:
    shop.results = AwayStore(tmp_path / "results", "videos/", times=10**6)
    job = await queue_job()
    await shop.store.reap()
    run = await claimed_run(shop)
    running = asyncio.create_task(run.run())
    await until(shop, job, lambda record: record.stage is not None and record.stage.value == "upload")
    await shop.store.redis.zadd(keys.LEASES, {job.id: 1})
    await shop.store.reap()
    assert (await read(shop, job)).state is JobState.QUEUED
    await run.lease.over.wait()

    shop.results.times = 0
    await running

    record = await read(shop, job)
    assert (record.state, len(record.attempts)) == (JobState.SUCCEEDED, 1)


@pytest.mark.usefixtures("impatient")
async def test_checkpoints_that_cannot_be_stored_do_not_hold_the_job_up(
    shop: Workshop, queue_job, tmp_path: Path
) -> None:
    shop.checkpoint_every_s = 0.0
    shop.results = AwayStore(tmp_path / "results", "checkpoints/", times=3)
    job = await queue_job()

    await attempt(shop)

    assert (await read(shop, job)).state is JobState.SUCCEEDED
    assert stored(shop) == []


async def test_lost_checkpoint_costs_time_and_not_the_job(shop: Workshop, queue_job) -> None:
    shop.checkpoint_every_s = 0.0
    job = await queue_job(prompt="faint@6")
    await attempt(shop)
    kept = stored(shop)
    for key in kept:
        shop.results.delete(key)

    await attempt(shop)

    # It fainted again, so it began anew.
    record = await read(shop, job)
    assert len(kept) == 1
    assert (record.state, record.engine_deaths, record.checkpoint_step) == (JobState.QUEUED, 2, 5)


@pytest.mark.parametrize(
    ("later", "of"), [(None, "1"), (errno.ENOSPC, "1"), (errno.EIO, "2")], ids=["back", "no room to read it", "away"]
)
async def test_checkpoint_out_of_reach_is_replaced_only_if_it_stays_so(
    later: int | None, of: str, slow_shop: Workshop, shop: Workshop, queue_job, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_shop.checkpoint_every_s = shop.checkpoint_every_s = 0.0
    job = await queue_job(prompt="faint@6")
    await attempt(shop)
    fetch, times = slow_shop.results.fetch, itertools.count()

    def away(key: str, target: Path) -> None:
        if (why := later if next(times) else errno.EIO) is None:
            return fetch(key, target)
        raise OSError(why, "out of reach")

    monkeypatch.setattr(slow_shop.results, "fetch", away)
    monkeypatch.setattr(checkpoints, "FETCH_SECONDS", 0.0)
    run = await claimed_run(slow_shop)
    running = asyncio.create_task(run.run())
    await until(slow_shop, job, lambda _: run._checkpoints.newest is not None)
    run.drain(5.0)
    await running
    left = await read(shop, job)
    monkeypatch.setattr(slow_shop.results, "fetch", fetch)

    await attempt(slow_shop)

    assert left.checkpoint is not None
    of_attempt = left.checkpoint.split("/")[2].partition("-")[0]
    assert (len(left.attempts), of_attempt) == (2, of)
    assert (await read(shop, job)).rendered.stages["resumed"] == f"step {left.checkpoint_step}"
    assert len(stored(shop)) == 0


async def test_zombies_checkpoint_is_refused_and_leaves_nothing(slow_shop: Workshop, shop: Workshop, queue_job) -> None:
    slow_shop.checkpoint_every_s = 0.2
    job = await queue_job()
    zombie = await claimed_run(slow_shop)
    await slow_shop.store.reap()
    await slow_shop.store.redis.zadd(keys.LEASES, {job.id: 1})
    await slow_shop.store.reap()
    holder = await claimed_run(shop, "w2")

    await zombie.run()

    record = await read(shop, job)
    assert (record.state, record.token, record.checkpoint) == (JobState.RUNNING, holder.claim.token, None)
    assert stored(shop) == []


async def test_full_disk_hands_the_job_on_and_takes_this_worker_out_of_rotation(shop: Workshop, queue_job) -> None:
    job = await queue_job(prompt="fail:worker_disk_full")
    assert shop.scratch.trouble() is None

    await attempt(shop)

    record = await read(shop, job)
    assert (record.state, record.engine_deaths) == (JobState.QUEUED, 0)
    assert record.attempts[0].ended_by == "worker_disk_full"
    assert (shop.scratch.trouble() or "").endswith("were not enough for a job")


async def test_cancelled_attempt_frees_the_device_before_it_clears_up(shop: Workshop, queue_job) -> None:
    told: list[str] = []
    job = await queue_job(prompt="hang@3")
    claim = (await claimed_run(shop)).claim
    run = JobRun(shop, claim, lambda: told.append("free"))
    running = asyncio.create_task(run.run())
    await until(shop, job, is_denoising)

    await shop.store.cancel(job.tenant, job.id)
    async with asyncio.timeout(60):
        await running

    assert told == ["free"]
    assert (await read(shop, job)).state is JobState.CANCELLED
