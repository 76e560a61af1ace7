import asyncio
import json
from collections.abc import Callable

import pytest

from video_jobs import keys
from video_jobs.job import Claim, Job, JobState, Outcome, Stage, VideoFile
from video_jobs.store import BEAT_SECONDS, LEASE_SECONDS, JobStore
from video_jobs.verdicts import CancelVerdict, Charge, Hold, Requeue

NewJob = Callable[..., Job]
VIDEO = VideoFile(key="videos/1/video.mp4", cover_key="videos/1/cover.jpg", size_bytes=1, sha256="00")
SUCCEEDED = Outcome(state=JobState.SUCCEEDED, video=VIDEO)


async def claimed(store: JobStore, job: Job) -> Claim:
    await store.accept(job)
    claim = await store.claim("w1", ["tiny"])
    assert claim is not None
    return claim


async def state_of(store: JobStore, job: Job) -> JobState:
    record = await store.get(job.id)
    assert record is not None
    return record.state


async def lose_lease(store: JobStore, job: Job) -> None:
    """The lease runs out, as if its worker had died."""
    await store.reap()
    await store.redis.zadd(keys.LEASES, {job.id: 1})
    assert await store.reap() == [job.id]


async def test_accepted_job_waits_and_is_read_back_whole(store: JobStore, new_job: NewJob) -> None:
    job = new_job(user_id="user-1")
    assert await store.accept(job) == job.id
    assert await store.accept(job) == job.id

    record = await store.get(job.id)
    assert record is not None
    assert (record.job, record.state) == (job, JobState.QUEUED)
    assert await store.redis.zcard(keys.waiting("1:tiny")) == 1
    assert await store.redis.llen(keys.AUDIT) == 1


async def test_claimed_job_is_claimed_once_and_in_order(store: JobStore, new_job: NewJob) -> None:
    first, second = new_job(), new_job()
    await store.accept(first)
    await store.accept(second)

    claims = [await store.claim("w", ["tiny"]) for _ in range(3)]

    assert [claim.job_id if claim else None for claim in claims] == [first.id, second.id, None]


async def test_claim_delivered_twice_answers_the_same(store: JobStore, new_job: NewJob) -> None:
    await store.accept(new_job())
    await store.accept(new_job())
    args = ("claim", "w1", "ab" * 8, 15_000, "", "1:tiny")

    assert await store._run(*args) == await store._run(*args)
    assert await store.redis.zcard(keys.waiting("1:tiny")) == 1


async def test_higher_class_goes_first(store: JobStore, new_job: NewJob) -> None:
    await store.accept(new_job(priority=2))
    urgent = new_job(priority=0)
    await store.accept(urgent)

    claim = await store.claim("w", ["tiny"])
    assert claim is not None
    assert claim.job_id == urgent.id


async def test_beat_and_report_are_for_the_holder_only(store: JobStore, new_job: NewJob) -> None:
    claim = await claimed(store, new_job())
    zombie = claim._replace(token="1:" + "0" * 16)

    assert await store.beat(claim) is Hold.HELD
    assert await store.report(claim, Stage.DENOISE, 0.5) is Hold.HELD
    assert await store.report(claim, Stage.DENOISE, 0.5) is Hold.HELD
    assert await store.prepared(claim, "A rich prompt.", "rewriter") is Hold.HELD
    assert await store.checkpointed(claim, "checkpoints/1", 7) is Hold.HELD
    assert {await store.beat(zombie), await store.report(zombie, Stage.TEXT, 0.1)} == {Hold.LOST}
    record = await store.get(claim.job_id)
    assert record is not None
    assert (record.stage, record.progress, record.rendered.prompt) == (Stage.DENOISE, 0.5, "A rich prompt.")
    assert (record.checkpoint, record.checkpoint_step) == ("checkpoints/1", 7)


async def test_finish_publishes_once_and_answers_twice(store: JobStore, new_job: NewJob) -> None:
    job = new_job()
    claim = await claimed(store, job)

    assert await store.finish(claim, SUCCEEDED)
    assert await store.finish(claim, SUCCEEDED)
    assert not await store.finish(claim, Outcome(state=JobState.FAILED, error_code="late"))
    record = await store.get(job.id)
    assert record is not None
    assert (record.state, record.video, record.progress) == (JobState.SUCCEEDED, VIDEO, 1)
    assert record.attempts[0].ended_by == "succeeded"
    assert await store.claim("w2", ["tiny"]) is None


async def test_zombie_cannot_finish_what_another_claimed(store: JobStore, new_job: NewJob) -> None:
    job = new_job()
    zombie = await claimed(store, job)
    await lose_lease(store, job)
    claim = await store.claim("w2", ["tiny"])
    assert claim is not None

    assert await store.beat(zombie) is Hold.LOST
    assert not await store.finish(zombie, SUCCEEDED)
    assert await store.finish(claim, SUCCEEDED)


async def test_finished_work_is_taken_though_the_job_is_back_in_line(store: JobStore, new_job: NewJob) -> None:
    job = new_job()
    claim = await claimed(store, job)
    await lose_lease(store, job)

    assert await store.finish(claim, SUCCEEDED)
    assert await store.claim("w2", ["tiny"]) is None
    assert await state_of(store, job) is JobState.SUCCEEDED


async def test_requeued_job_keeps_its_place_and_answers_twice(store: JobStore, new_job: NewJob) -> None:
    job, later = new_job(), new_job()
    claim = await claimed(store, job)
    await store.accept(later)

    assert await store.requeue(claim, "drain", Charge.FREE) is Requeue.QUEUED
    assert await store.requeue(claim, "drain", Charge.FREE) is Requeue.QUEUED
    again = await store.claim("w2", ["tiny"])
    assert again is not None
    assert again.job_id == job.id
    assert again.token != claim.token
    assert await store.requeue(claim, "drain", Charge.FREE) is Requeue.LOST


async def test_third_engine_death_is_poison(store: JobStore, new_job: NewJob) -> None:
    job = new_job()
    await store.accept(job)
    answers = []
    for _ in range(3):
        claim = await store.claim("w", ["tiny"])
        assert claim is not None
        answers.append(await store.requeue(claim, "engine_died", Charge.ENGINE_DEATH))

    record = await store.get(job.id)
    assert answers == [Requeue.QUEUED, Requeue.QUEUED, Requeue.FAILED]
    assert record is not None
    assert (record.state, record.error_code, record.engine_deaths) == (JobState.FAILED, "poison", 3)
    assert await store.redis.zscore(keys.DEAD, job.id) is not None


async def test_five_lost_leases_are_poison_unless_a_checkpoint_came_between(store: JobStore, new_job: NewJob) -> None:
    job = new_job()
    claim = await claimed(store, job)
    for round_ in range(8):
        if round_ == 3:
            await store.checkpointed(claim, "checkpoints/1", 3)
        await lose_lease(store, job)
        if round_ < 7:
            assert await state_of(store, job) is JobState.QUEUED
            again = await store.claim("w", ["tiny"])
            assert again is not None
            claim = again

    assert await state_of(store, job) is JobState.FAILED


async def test_job_that_starts_over_and_over_is_poison_whatever_it_checkpoints(
    store: JobStore, new_job: NewJob
) -> None:
    job = new_job()
    await store.accept(job)
    for _ in range(5):
        claim = await store.claim("w", ["tiny"])
        assert claim is not None
        await store.checkpointed(claim, f"checkpoints/{claim.token}", 3)
        await lose_lease(store, job)
        if await state_of(store, job) is JobState.FAILED:
            break

    record = await store.get(job.id)
    assert record is not None
    assert (record.state, record.error_code, record.lost_leases) == (JobState.FAILED, "poison", 5)


async def test_history_tells_why_an_attempt_ended(store: JobStore, new_job: NewJob) -> None:
    job = new_job()
    claim = await claimed(store, job)

    await store.requeue(claim, "engine_died", Charge.ENGINE_DEATH, "engine ended by signal 9, at denoise 3 of 10")

    record = await store.get(job.id)
    assert record is not None
    assert (record.attempts[0].ended_by, record.attempts[0].detail) == (
        "engine_died",
        "engine ended by signal 9, at denoise 3 of 10",
    )


async def test_worker_that_asks_again_with_its_nonce_gets_the_job_it_was_given(
    store: JobStore, new_job: NewJob
) -> None:
    await store.accept(new_job())
    await store.accept(new_job())

    given = await store.claim("w", ["tiny"], "abc")

    assert given is not None
    assert await store.claim("w", ["tiny"], "abc") == given
    assert await store.claim("w", ["tiny"]) != given


async def test_worker_that_asks_again_has_a_whole_lease_even_after_a_long_outage(
    store: JobStore, new_job: NewJob
) -> None:
    job = new_job()
    await store.accept(job)
    given = await store.claim("w", ["tiny"], "abc")
    now_ms = (await store.redis.time())[0] * 1000
    await store.redis.zadd(keys.LEASES, {job.id: now_ms + 100})

    assert await store.claim("w", ["tiny"], "abc") == given
    assert await store.redis.zscore(keys.LEASES, job.id) >= now_ms + store.lease_s * 1000
    assert await store.redis.ttl(keys.CLAIM_NONCE + "abc") > 30 * 60


async def test_checkpoint_that_is_told_again_after_the_lease_is_still_the_one_to_go_on_from(
    store: JobStore, new_job: NewJob
) -> None:
    """Else the worker that lost the first answer would delete it."""
    job = new_job()
    claim = await claimed(store, job)
    await store.checkpointed(claim, "checkpoints/one", 7)
    await store.requeue(claim, "drained", Charge.FREE)

    assert await store.checkpointed(claim, "checkpoints/one", 7) is Hold.HELD
    assert await store.checkpointed(claim, "checkpoints/two", 9) is Hold.LOST
    record = await store.get(job.id)
    assert record is not None
    assert (record.checkpoint, record.checkpoint_step) == ("checkpoints/one", 7)


async def test_outage_extends_every_lease_by_its_own_length(store: JobStore, new_job: NewJob) -> None:
    """As if that time had not passed: who had ten seconds left has them, and an orphan waits no longer than that."""
    job, long_dead = new_job(), new_job()
    claim = await claimed(store, job)
    await claimed(store, long_dead)
    now_ms = (await store.redis.time())[0] * 1000
    await store.redis.set(keys.REAPED, now_ms - 60_000)
    await store.redis.zadd(keys.LEASES, {job.id: now_ms - 50_000, long_dead.id: now_ms - 60_001})

    assert await store.reap() == []
    left_ms = (await store.redis.zscore(keys.LEASES, job.id)) - now_ms
    assert 10_000 <= left_ms < 13_000
    assert await store.reap() == [long_dead.id]
    assert await store.beat(claim) is Hold.HELD


@pytest.mark.parametrize("away_s", [5.5, 9.0])
async def test_outage_that_begins_just_before_a_beat_costs_no_lease(
    store: JobStore, new_job: NewJob, away_s: float
) -> None:
    job = new_job()
    claim = await claimed(store, job)
    seconds, micros = await store.redis.time()
    now_ms, away_ms = seconds * 1000 + micros // 1000, round(away_s * 1000)
    left_ms = (LEASE_SECONDS - BEAT_SECONDS - 0.5) * 1000 - away_ms
    await store.redis.zadd(keys.LEASES, {job.id: now_ms + left_ms})
    await store.redis.set(keys.REAPED, now_ms - away_ms)

    assert await store.reap() == []
    await asyncio.sleep(1)
    assert await store.reap() == []
    assert await store.beat(claim) is Hold.HELD


async def test_cancel_in_line_is_final_at_once(store: JobStore, new_job: NewJob) -> None:
    job = new_job()
    await store.accept(job)

    assert await store.cancel("acme", job.id) is CancelVerdict.CANCELLED
    assert await store.cancel("acme", job.id) is CancelVerdict.CANCELLED
    assert await store.claim("w", ["tiny"]) is None
    assert await state_of(store, job) is JobState.CANCELLED


async def test_cancel_of_a_running_job_reaches_its_worker(store: JobStore, new_job: NewJob) -> None:
    job = new_job()
    claim = await claimed(store, job)
    async with store.redis.pubsub() as heard:
        await heard.subscribe(keys.CANCELS)
        assert await store.cancel("acme", job.id) is CancelVerdict.ASKED
        messages = [await heard.get_message(timeout=2) for _ in range(2)]

    assert messages[1] is not None
    assert messages[1]["data"].decode() == job.id
    assert await store.beat(claim) is Hold.CANCEL
    assert await store.requeue(claim, "engine_died", Charge.ENGINE_DEATH) is Requeue.CANCELLED
    assert await state_of(store, job) is JobState.CANCELLED


async def test_cancel_answers_by_whose_and_when(store: JobStore, new_job: NewJob) -> None:
    job = new_job()
    claim = await claimed(store, job)

    assert await store.cancel("another", job.id) is CancelVerdict.UNKNOWN
    assert await store.cancel("acme", "nothing") is CancelVerdict.UNKNOWN
    await store.finish(claim, SUCCEEDED)
    assert await store.cancel("acme", job.id) is CancelVerdict.FINAL


@pytest.mark.timeout(60)
async def test_five_hundred_running_jobs_hide_no_waiting_one(store: JobStore, new_job: NewJob) -> None:
    for _ in range(500):
        await claimed(store, new_job())
    waiting = new_job()
    await store.accept(waiting)

    claim = await store.claim("idle", ["tiny"])
    assert claim is not None
    assert claim.job_id == waiting.id


async def test_job_of_an_unserved_route_or_version_waits_and_blocks_nobody(store: JobStore, new_job: NewJob) -> None:
    alien, newer, ours = new_job(route="mars"), new_job(version=99), new_job()
    for job in (alien, newer, ours):
        await store.accept(job)

    claim = await store.claim("w", ["tiny"])
    assert claim is not None
    assert claim.job_id == ours.id
    assert await store.claim("w", ["tiny"]) is None
    assert {await state_of(store, alien), await state_of(store, newer)} == {JobState.QUEUED}


async def test_idle_worker_wakes_for_a_new_job(store: JobStore, new_job: NewJob, redis_url: str) -> None:
    waiting = asyncio.create_task(store.wait_for_work(["mars", "tiny"], 5))
    await asyncio.sleep(0.05)
    await store.accept(new_job())

    await asyncio.wait_for(waiting, 2)


async def test_audit_numbers_every_change_without_gaps(store: JobStore, new_job: NewJob) -> None:
    jobs = [new_job(user_id="user-1") for _ in range(20)]
    await asyncio.gather(*(store.accept(job) for job in jobs))
    claim = await store.claim("w", ["tiny"])
    assert claim is not None
    await store.finish(claim, SUCCEEDED)

    records = [json.loads(line) for line in await store.redis.lrange(keys.AUDIT, 0, -1)]
    assert [record["seq"] for record in records] == list(range(1, 23))
    assert [record["event"] for record in records[-2:]] == ["claimed", "succeeded"]
    assert {record["user_id"] for record in records} == {"user-1"}


@pytest.mark.parametrize(
    ("why", "charge", "times"), [("engine_died", Charge.ENGINE_DEATH, 3), ("upload_failed", Charge.ATTEMPT, 5)]
)
async def test_last_chance_of_a_job_asked_to_stop_ends_it_as_cancelled(
    store: JobStore, new_job: NewJob, why: str, charge: Charge, times: int
) -> None:
    job = new_job()
    claim = await claimed(store, job)
    for _ in range(times - 1):
        assert await store.requeue(claim, why, charge) is Requeue.QUEUED
        again = await store.claim("w", ["tiny"])
        assert again is not None
        claim = again
    await store.cancel("acme", job.id)

    assert await store.requeue(claim, why, charge) is Requeue.CANCELLED
    assert await state_of(store, job) is JobState.CANCELLED
    assert await store.redis.zscore(keys.DEAD, job.id) is None


async def test_last_lost_lease_of_a_job_asked_to_stop_ends_it_as_cancelled(store: JobStore, new_job: NewJob) -> None:
    job = new_job()
    await claimed(store, job)
    await store.redis.hset(keys.job(job.id), "lost_leases", "4")  # type: ignore[misc]
    await store.cancel("acme", job.id)
    await lose_lease(store, job)

    assert await state_of(store, job) is JobState.CANCELLED


async def test_requeue_of_a_lost_or_finished_claim_is_not_answered_for_an_earlier_one(
    store: JobStore, new_job: NewJob
) -> None:
    job = new_job()
    assert await store.requeue(await claimed(store, job), "drain", Charge.FREE) is Requeue.QUEUED
    claim = await store.claim("w", ["tiny"])
    assert claim is not None
    await lose_lease(store, job)
    assert await store.requeue(claim, "drain", Charge.FREE) is Requeue.LOST

    claim = await store.claim("w", ["tiny"])
    assert claim is not None
    await store.finish(claim, SUCCEEDED)
    assert await store.requeue(claim, "drain", Charge.FREE) is Requeue.LOST


async def test_extended_leases_are_in_the_audit(store: JobStore, new_job: NewJob) -> None:
    job = new_job()
    await claimed(store, job)
    await store.reap()

    last = json.loads((await store.redis.lrange(keys.AUDIT, -1, -1))[0])  # type: ignore[misc]
    assert (last["event"], last["task_id"]) == ("lease extended", job.id)
