"""What operators may do to any tenant's jobs; each act leaves its name in the audit."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from video_jobs import keys
from video_jobs.job import Claim, Job, JobState, Outcome
from video_jobs.store import JobStore
from video_jobs.verdicts import CancelVerdict, Charge, Hold, Requeue, Retry

NewJob = Callable[..., Job]
WHO = "ops@desk"


async def claim_of(store: JobStore) -> Claim:
    claim = await store.claim("w", ["tiny"])
    assert claim is not None
    return claim


async def acts(store: JobStore) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in await store.redis.lrange(keys.AUDIT, 0, -1)]
    return [(line["event"], line["detail"]) for line in lines if WHO in line["detail"]]


async def dead_job(store: JobStore, job: Job) -> Claim:
    await store.accept(job)
    while await store.requeue(claim := await claim_of(store), "engine_died", Charge.ENGINE_DEATH) is not Requeue.FAILED:
        pass
    return claim


async def test_dead_job_is_tried_again_as_new(store: JobStore, new_job: NewJob) -> None:
    job = new_job()
    last = await dead_job(store, job)

    assert await store.retry(job.id, WHO) is Retry.QUEUED
    assert await store.retry(job.id, WHO) is Retry.NOT_FAILED

    record = await store.get(job.id)
    assert record is not None
    assert (record.state, record.error_code, record.engine_deaths) == (JobState.QUEUED, None, 0)
    assert not await store.redis.exists(keys.DEAD)
    assert not await store.finish(last, Outcome(state=JobState.SUCCEEDED)), "earlier attempts are over"
    assert await store.finish(await claim_of(store), Outcome(state=JobState.SUCCEEDED))
    assert await acts(store) == [("retried", WHO)]


async def test_retried_job_forgets_that_it_was_asked_to_stop(store: JobStore, new_job: NewJob) -> None:
    job = new_job()
    await store.accept(job)
    claim = await claim_of(store)
    await store.cancel(job.tenant, job.id)
    assert await store.finish(claim, Outcome(state=JobState.FAILED, error_code="internal_fault"))

    assert await store.retry(job.id, WHO) is Retry.QUEUED

    assert await store.beat(await claim_of(store)) is Hold.HELD


async def test_retry_delivered_twice_answers_the_same_and_retries_once(
    store: JobStore, new_job: NewJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, run = new_job(), store._run
    await dead_job(store, job)

    async def and_again(*args: Any) -> Any:
        first = await run(*args)
        await store.finish(await claim_of(store), Outcome(state=JobState.FAILED))
        assert await run(*args) == first
        return first

    monkeypatch.setattr(store, "_run", lambda *args: and_again(*args) if args[0] == "retry" else run(*args))
    assert await store.retry(job.id, WHO) is Retry.QUEUED

    record = await store.get(job.id)
    assert record is not None
    assert record.state is JobState.FAILED, "what came of it meanwhile stands"
    assert await acts(store) == [("retried", WHO)]


async def test_retried_job_is_charged_once(store: JobStore, new_job: NewJob) -> None:
    job = new_job(cost_s=7)
    await dead_job(store, job)
    spent = keys.tenancy("spent")
    assert await store.redis.hget(spent, "acme") is None

    await store.retry(job.id, WHO)
    assert await store.redis.hget(spent, "acme") == b"7000"

    await store.finish(await claim_of(store), Outcome(state=JobState.SUCCEEDED))
    assert await store.redis.hget(spent, "acme") == b"7000"


async def test_only_failed_jobs_are_retried(store: JobStore, new_job: NewJob) -> None:
    job = new_job()
    await store.accept(job)
    await store.finish(await claim_of(store), Outcome(state=JobState.SUCCEEDED))

    assert await store.retry(job.id, WHO) is Retry.NOT_FAILED
    assert await store.retry("1" * 25, WHO) is Retry.UNKNOWN


async def test_operator_cancels_any_tenants_job(store: JobStore, new_job: NewJob) -> None:
    job = new_job(tenant="other")
    await store.accept(job)

    assert await store.cancel_for_operator(job.id, WHO) is CancelVerdict.CANCELLED
    assert await store.cancel_for_operator("1" * 25, WHO) is CancelVerdict.UNKNOWN
    assert await acts(store) == [("cancel asked", WHO)]


async def test_paused_route_gives_no_job_out_and_takes_all(store: JobStore, new_job: NewJob) -> None:
    assert await store.pause("tiny", WHO)
    assert not await store.pause("tiny", WHO)
    await store.accept(new_job())
    other = new_job(route="large")
    await store.accept(other)

    assert await store.claim("w", ["tiny"]) is None
    claim = await store.claim("w", ["tiny", "large"])
    assert claim is not None
    assert claim.job_id == other.id

    assert await store.resume("tiny", WHO)
    assert await claim_of(store)
    assert await acts(store) == [("paused", f"tiny by {WHO}"), ("resumed", f"tiny by {WHO}")]


async def test_everything_is_paused_at_once(store: JobStore, new_job: NewJob) -> None:
    await store.accept(new_job())
    await store.pause("*", WHO)

    assert await store.claim("w", ["tiny"]) is None

    await store.resume("*", WHO)
    assert await claim_of(store)
