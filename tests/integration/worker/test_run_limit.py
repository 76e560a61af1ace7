"""A job past its run limit ends, and so does the device's work on it."""

from collections.abc import Callable

from video_jobs.errors import RanTooLong
from video_jobs.job import Job, JobRecord, JobState, Stage
from video_jobs.store import JobStore

# Left to itself, the first job would keep the device for ten seconds.
STEP_SECONDS, RUN_LIMIT_SECONDS, SOON_SECONDS = 1.0, 1.5, 5.0


def is_rendering(record: JobRecord) -> bool:
    return record.stage is Stage.DENOISE and record.progress > 0


async def test_job_past_its_run_limit_ends_and_leaves_the_device_to_the_next(
    store: JobStore, new_job: Callable[..., Job], start_worker, wait
) -> None:
    long, following = new_job(run_limit_s=RUN_LIMIT_SECONDS), new_job()
    for job in (long, following):
        await store.accept(job)
    worker = start_worker(engine_step_s=STEP_SECONDS)
    await wait(store, long, is_rendering)
    engine = worker.child("engine")

    ended = await wait(store, long, lambda record: record.state.is_final, limit_s=RUN_LIMIT_SECONDS + SOON_SECONDS)
    await wait(store, following, is_rendering, limit_s=SOON_SECONDS)

    assert (ended.state, ended.error_code) == (JobState.FAILED, RanTooLong.code)
    assert [attempt.ended_by for attempt in ended.attempts] == [RanTooLong.code]
    assert worker.child("engine") == engine, "it stopped when it was told to"
    assert await store.get(long.id) == ended
