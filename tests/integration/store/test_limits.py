"""Limits in admit: refused without a trace, given back when nothing comes of a request, leaked by nobody."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from video_jobs import keys
from video_jobs.job import Claim, Job, JobState, Outcome, Rendered
from video_jobs.limits import Ask, LimitHit, Limits, Tenant
from video_jobs.policy.terms import TenantPolicy
from video_jobs.store import JobStore
from video_jobs.tenants import TenantBook
from video_jobs.verdicts import Admission, Charge, Verdict

NewJob = Callable[..., Job]
NEW = Verdict.NEW
ids = iter(range(10**9))


@pytest.fixture
def book(store: JobStore) -> TenantBook:
    return TenantBook(store)


async def limit(book: TenantBook, **limits: Any) -> None:
    await book.put_tenant("acme", Tenant(limits=Limits(**limits)))


async def admit(store: JobStore, job: Job | None = None, **ask: Any) -> Admission:
    name = job.request_id if job else f"r{next(ids)}"
    return await store.admit("acme", name, "same", job.id if job else name, Ask(**ask))


async def hit(store: JobStore, **ask: Any) -> LimitHit | None:
    return (await admit(store, **ask)).limit


async def spent_ms(store: JobStore) -> int:
    return int(await store.redis.hget(keys.TENANCY + "spent", "acme") or 0)  # type: ignore[misc]


async def claim_one(store: JobStore) -> Claim:
    claim = await store.claim("w", ["tiny"])
    assert claim is not None
    return claim


async def test_rate_lets_a_minutes_worth_pass_and_then_refills(store: JobStore, book: TenantBook) -> None:
    await limit(book, requests_per_minute=120)
    started = time.monotonic()
    answers = await asyncio.gather(*(admit(store) for _ in range(200)))
    passed = sum(answer.verdict is NEW for answer in answers)

    assert 120 <= passed <= 120 + 2 * (time.monotonic() - started) + 1
    refused = next(answer.limit for answer in answers if answer.limit)
    assert (refused.name, refused.whose, refused.number) == ("requests_per_minute", "tenant", 120)
    assert refused.wait_s is not None
    assert 0 < refused.wait_s <= 0.5
    await asyncio.sleep(0.55)
    assert (await admit(store)).verdict is NEW


async def test_refused_request_uses_nothing_up(store: JobStore, book: TenantBook) -> None:
    await limit(book, requests_per_minute=2, user_requests_per_minute=1)

    first = await admit(store, user_id="user-1")
    assert first.verdict is NEW
    for _ in range(5):
        refused = await hit(store, user_id="user-1")
        assert refused is not None
        assert refused.whose == "user"
    assert (await admit(store, user_id="user-2")).verdict is NEW
    assert await hit(store, user_id="user-3") is not None
    assert await book.standing("acme") == {"queued": 0, "running": 0, "held": 2}


async def test_replays_pass_before_limits(store: JobStore, book: TenantBook, new_job: NewJob) -> None:
    await limit(book, requests_per_minute=1, queued=1)
    job = new_job()
    assert (await admit(store, job)).verdict is NEW
    assert (await admit(store, job)).verdict is NEW
    await store.accept(job)

    assert (await admit(store)).verdict is Verdict.LIMITED
    assert (await admit(store, job)).verdict is Verdict.REPLAY


@pytest.mark.parametrize("name", ["queued", "in_flight", "user_queued", "user_in_flight"])
async def test_counts_hold_at_fifty_parallel_calls(store: JobStore, book: TenantBook, name: str) -> None:
    await limit(book, **{name: 7})

    answers = await asyncio.gather(*(admit(store, user_id="user-1") for _ in range(50)))

    assert sum(answer.verdict is NEW for answer in answers) == 7
    refused = next(answer.limit for answer in answers if answer.limit)
    assert refused.name == name.removeprefix("user_")


async def test_running_jobs_are_in_flight_but_not_queued(store: JobStore, book: TenantBook, new_job: NewJob) -> None:
    await limit(book, queued=1, in_flight=2)
    first, second = new_job(), new_job()
    for job in (first, second):
        assert (await admit(store, job)).verdict is NEW
        await store.accept(job)
        if job is first:
            refused = await hit(store)
            assert refused is not None
            assert refused.name == "queued"
            claim = await claim_one(store)

    await claim_one(store)
    refused = await hit(store)
    assert refused is not None
    assert refused.name == "in_flight"
    await store.finish(claim, Outcome(state=JobState.FAILED, error_code="x"))
    assert (await admit(store)).verdict is NEW


async def test_dead_gateway_and_dead_worker_leak_no_slot(store: JobStore, book: TenantBook, new_job: NewJob) -> None:
    await limit(book, in_flight=2, gpu_seconds_per_day=100)
    hasty = JobStore(store.redis, reserve_s=0.05)
    for _ in range(2):
        assert (await admit(hasty, cost_s=40, user_id="user-1", has_image=True)).verdict is NEW
    assert await spent_ms(store) == 80_000
    await asyncio.sleep(0.1)

    job = new_job(cost_s=40)
    assert (await admit(store, job, cost_s=40)).verdict is NEW
    assert await spent_ms(store) == 40_000
    await store.accept(job)
    claim = await claim_one(store)
    await store.reap()
    for _ in range(5):
        await store.redis.zadd(keys.LEASES, {job.id: 1})
        await store.reap()
        await store.claim("w", ["tiny"])

    record = await store.get(job.id)
    assert record is not None
    assert record.state is JobState.FAILED
    assert not await store.finish(claim, Outcome(state=JobState.SUCCEEDED))
    assert await book.standing("acme") == {"queued": 0, "running": 0, "held": 0}
    assert await spent_ms(store) == 0


async def test_released_reservation_gives_all_back(store: JobStore, book: TenantBook, new_job: NewJob) -> None:
    await limit(book, in_flight=1, image_intakes=1, gpu_seconds_per_day=10)
    job = new_job()
    assert (await admit(store, job, cost_s=10, has_image=True)).verdict is NEW
    assert (await admit(store, cost_s=1)).verdict is Verdict.LIMITED

    for _ in range(2):
        await store.release("acme", job.request_id, job.id)

    assert (await admit(store, cost_s=10, has_image=True)).verdict is NEW


@pytest.mark.parametrize("name", ["gpu_seconds_per_day", "gpu_seconds_per_month", "user_gpu_seconds_per_day"])
async def test_quota_is_settled_by_what_was_measured(
    store: JobStore, book: TenantBook, new_job: NewJob, name: str
) -> None:
    await limit(book, **{name: 100})
    for seconds in (30.0, None):
        job = new_job(cost_s=60, user_id="user-1")
        assert (await admit(store, job, cost_s=60, user_id="user-1")).verdict is NEW
        await store.accept(job)
        refused = await hit(store, cost_s=60, user_id="user-1")
        assert refused is not None
        assert (refused.name, refused.number) == (name.removeprefix("user_"), 100)
        assert refused.wait_s == pytest.approx(seconds_until_reset(name), abs=5)
        state = JobState.SUCCEEDED if seconds else JobState.FAILED
        rendered = Rendered(stage_seconds={"text": 1.0, "denoise": seconds - 1, "upload": 9.0} if seconds else {})
        await store.finish(await claim_one(store), Outcome(state=state, rendered=rendered))

    assert await spent_ms(store) == 30_000


def seconds_until_reset(name: str) -> float:
    now = datetime.now(UTC)
    if name.endswith("month"):
        then = datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=UTC)
    else:
        then = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
    return (then - now).total_seconds()


async def test_prepaid_budget_ends(store: JobStore, book: TenantBook, new_job: NewJob) -> None:
    await limit(book, prepaid_gpu_seconds=50)
    job = new_job(cost_s=40)
    await store.accept(job)

    refused = await hit(store, cost_s=20)
    assert refused is not None
    assert refused.name == "prepaid_gpu_seconds"
    await store.cancel("acme", job.id)
    assert (await admit(store, cost_s=20)).verdict is NEW


async def test_who_stops_a_running_job_pays_for_the_time_it_ran(store: JobStore, new_job: NewJob) -> None:
    for cost_s in (60.0, 0.05):
        await store.accept(new_job(cost_s=cost_s))
        claim = await claim_one(store)
        await asyncio.sleep(0.2)
        await store.cancel("acme", claim.job_id)
        await store.finish(claim, Outcome(state=JobState.CANCELLED, rendered=Rendered()))
    waiting = new_job(cost_s=60)
    await store.accept(waiting)
    await store.cancel("acme", waiting.id)

    assert 250 <= await spent_ms(store) < 10_000


async def test_full_pool_refuses_by_predicted_wait(store: JobStore, new_job: NewJob) -> None:
    await store.accept(new_job(cost_s=600))

    refused = await hit(store, cost_s=10, route="tiny", workers=2, max_wait_s=300)
    assert refused is not None
    assert (refused.name, refused.whose, refused.wait_s) == ("wait", "pool", 5)
    assert (await admit(store, cost_s=10, route="tiny", workers=3, max_wait_s=300)).verdict is NEW


async def test_job_handed_back_is_queued_again_and_counted_once(
    store: JobStore, book: TenantBook, new_job: NewJob
) -> None:
    await store.accept(new_job(user_id="user-1"))
    for _ in range(3):
        claim = await claim_one(store)
        assert await book.standing("acme") == {"queued": 0, "running": 1, "held": 0}
        await store.requeue(claim, "drain", Charge.FREE)
        assert await book.standing("acme") == {"queued": 1, "running": 0, "held": 0}


async def test_prediction_learns_from_measured_times(store: JobStore, new_job: NewJob) -> None:
    for _ in range(40):
        await store.accept(new_job(cost_s=10))
        rendered = Rendered(stage_seconds={"denoise": 20.0})
        await store.finish(await claim_one(store), Outcome(state=JobState.SUCCEEDED, rendered=rendered))
    job = new_job(cost_s=10)
    await store.accept(job)

    place = await store.place(job.id)
    assert place is not None
    assert place.cost_s == pytest.approx(20, rel=0.03)


async def test_plans_and_tenants_are_read_back_and_written_once(book: TenantBook) -> None:
    await book.add_default_plan()
    await book.add_default_plan()
    tenant = Tenant(title="Acme", weight=2.5, limits=Limits(queued=None, running=3), policy=TenantPolicy(words=False))

    assert await book.put_tenant("acme", tenant)
    assert not await book.put_tenant("acme", tenant)
    assert await book.tenants() == {"acme": tenant}
    terms = await book.terms("acme")
    assert (terms.limits.queued, terms.limits.running, terms.limits.requests_per_minute) == (None, 3, 6000)
    assert (terms.weight, terms.service_class) == (2.5, "standard")
    assert (await book.terms("unknown")).limits.queued == 10_000
