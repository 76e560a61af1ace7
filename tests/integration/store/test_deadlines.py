"""What time does to a job: a pause before the next attempt, a latest start, a run limit."""

import asyncio
from collections.abc import Callable

from video_jobs import keys
from video_jobs.job import Claim, Job, JobRecord, JobState, Outcome
from video_jobs.store import JobStore
from video_jobs.verdicts import CancelVerdict, Charge, Hold, Requeue

NewJob = Callable[..., Job]


async def due(store: JobStore, kind: str, job: Job) -> None:
    """The moment comes."""
    await store.reap()
    assert await store.redis.zadd(keys.schedule(kind), {job.id: 1}, xx=True, ch=True) == 1
    await store.reap()


async def read(store: JobStore, job: Job) -> JobRecord:
    record = await store.get(job.id)
    assert record is not None
    return record


async def claim_of(store: JobStore) -> Claim:
    claim = await store.claim("w", ["tiny"])
    assert claim is not None
    return claim


async def test_failed_attempt_pauses_longer_each_time(store: JobStore, new_job: NewJob) -> None:
    slow, job = JobStore(store.redis, retry_s=60), new_job()
    await slow.accept(job)
    pauses = []
    for _ in range(3):
        claim = await claim_of(slow)
        assert await slow.requeue(claim, "upload_failed", Charge.ATTEMPT) is Requeue.QUEUED
        assert await slow.claim("w", ["tiny"]) is None
        at_ms = await slow.redis.zscore(keys.schedule("delayed"), job.id)
        pauses.append(round(at_ms / 1000 - (await slow.redis.time())[0], -1))
        await due(slow, "delayed", job)

    assert pauses == [60, 120, 240]
    assert (await claim_of(slow)).job_id == job.id


async def test_drained_job_does_not_pause(store: JobStore, new_job: NewJob) -> None:
    slow = JobStore(store.redis, retry_s=60)
    await slow.accept(new_job())

    await slow.requeue(await claim_of(slow), "drained", Charge.FREE)

    assert await claim_of(slow)


async def test_paused_job_is_cancelled_or_finished_as_any(store: JobStore, new_job: NewJob) -> None:
    slow, first, second = JobStore(store.redis, retry_s=60), new_job(), new_job()
    claims = []
    for job in (first, second):
        await slow.accept(job)
        claims.append(await claim_of(slow))
        await slow.requeue(claims[-1], "upload_failed", Charge.ATTEMPT)

    assert await slow.cancel("acme", first.id) is CancelVerdict.CANCELLED
    assert await slow.finish(claims[1], Outcome(state=JobState.SUCCEEDED))

    assert not await slow.redis.exists(keys.schedule("delayed"))
    assert (await read(slow, second)).state is JobState.SUCCEEDED


async def test_job_that_nobody_starts_in_time_fails(store: JobStore, new_job: NewJob) -> None:
    job = new_job(start_within_s=60)
    await store.accept(job)

    await due(store, "deadlines", job)

    record = await read(store, job)
    assert (record.state, record.error_code) == (JobState.FAILED, "start_too_late")
    assert await store.claim("w", ["tiny"]) is None
    assert not await store.redis.exists(keys.schedule("deadlines"))


async def test_job_that_runs_too_long_ends_and_its_worker_is_told(store: JobStore, new_job: NewJob) -> None:
    job = new_job(start_within_s=60, run_limit_s=600)
    await store.accept(job)
    claim = await claim_of(store)
    left_s = await store.redis.zscore(keys.schedule("deadlines"), job.id) / 1000 - (await store.redis.time())[0]
    assert 590 < left_s <= 601
    async with store.redis.pubsub() as heard:
        await heard.subscribe(keys.CANCELS)
        await due(store, "deadlines", job)
        async with asyncio.timeout(5):
            told = [message["data"] async for message in _two(heard)]

    assert told[-1] == job.id.encode()
    record = await read(store, job)
    assert (record.state, record.error_code) == (JobState.FAILED, "run_too_long")
    assert record.attempts[-1].ended_by == "run_too_long"
    assert await store.beat(claim) is Hold.LOST
    assert not await store.finish(claim, Outcome(state=JobState.SUCCEEDED))


async def _two(heard):
    for _ in range(2):
        while (message := await heard.get_message(timeout=1)) is None:
            pass
        yield message


async def test_limit_of_a_job_asked_to_stop_ends_it_as_cancelled(store: JobStore, new_job: NewJob) -> None:
    job = new_job(run_limit_s=600)
    await store.accept(job)
    await claim_of(store)
    await store.cancel(job.tenant, job.id)

    await due(store, "deadlines", job)

    assert (await read(store, job)).state is JobState.CANCELLED


async def test_limit_that_passes_while_redis_is_away_leaves_time_to_publish(store: JobStore, new_job: NewJob) -> None:
    job = new_job(run_limit_s=600)
    await store.accept(job)
    claim = await claim_of(store)
    await store.redis.zadd(keys.schedule("deadlines"), {job.id: 1})
    await store.redis.set(keys.REAPED, 1)

    await store.reap()
    await store.reap()

    assert await store.finish(claim, Outcome(state=JobState.SUCCEEDED))


async def test_run_limit_counts_from_the_first_start(store: JobStore, new_job: NewJob) -> None:
    job = new_job(run_limit_s=600)
    await store.accept(job)
    first = await claim_of(store)
    before = await store.redis.zscore(keys.schedule("deadlines"), job.id)
    await store.requeue(first, "drained", Charge.FREE)

    await claim_of(store)

    assert await store.redis.zscore(keys.schedule("deadlines"), job.id) == before


async def test_ended_job_has_no_deadline(store: JobStore, new_job: NewJob) -> None:
    job = new_job(start_within_s=60, run_limit_s=600)
    await store.accept(job)

    await store.finish(await claim_of(store), Outcome(state=JobState.SUCCEEDED))

    assert not await store.redis.exists(keys.schedule("deadlines"))
