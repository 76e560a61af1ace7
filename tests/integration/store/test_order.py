"""The fair order: between tenants by device seconds, inside a tenant by end user, and no class starves."""

from collections.abc import Callable

import pytest

from video_jobs import keys
from video_jobs.job import Claim, Job, JobState, Outcome, Rendered
from video_jobs.limits import Limits, Tenant, Terms
from video_jobs.store import JobStore
from video_jobs.tenants import TenantBook
from video_jobs.verdicts import Charge, Requeue

NewJob = Callable[..., Job]


@pytest.fixture
def book(store: JobStore) -> TenantBook:
    return TenantBook(store)


async def start(store: JobStore) -> tuple[Claim, Job]:
    claim = await store.claim("w", ["tiny"])
    assert claim is not None
    record = await store.get(claim.job_id)
    assert record is not None
    return claim, record.job


async def starts(store: JobStore, count: int) -> list[Job]:
    return [(await start(store))[1] for _ in range(count)]


async def accept(store: JobStore, *jobs: Job) -> None:
    for job in jobs:
        await store.accept(job)


async def test_one_job_behind_anothers_backlog_starts_in_the_next_slot(store: JobStore, new_job: NewJob) -> None:
    await accept(store, *(new_job(tenant="busy", cost_s=60) for _ in range(300)))
    await starts(store, 3)
    await accept(store, new_job(tenant="late", cost_s=60))

    assert (await starts(store, 1))[0].tenant == "late"


async def test_tenants_share_by_weight_in_device_seconds(store: JobStore, new_job: NewJob, book: TenantBook) -> None:
    await book.put_tenant("heavy", Tenant(weight=3))
    await accept(store, *(new_job(tenant="heavy", cost_s=10) for _ in range(60)))
    await accept(store, *(new_job(tenant="long", cost_s=40) for _ in range(60)))

    started = await starts(store, 40)

    seconds = {name: sum(job.cost_s for job in started if job.tenant == name) for name in ("heavy", "long")}
    assert seconds["heavy"] / seconds["long"] == pytest.approx(3, rel=0.15)


async def test_a_second_class_is_no_second_share(store: JobStore, new_job: NewJob) -> None:
    await accept(store, *(new_job(tenant="sly", priority=priority) for priority in (1, 2) for _ in range(100)))
    await accept(store, *(new_job(tenant="plain", priority=1) for _ in range(150)))

    started = await starts(store, 170)

    assert sum(job.priority == 2 for job in started) == 10, "and no class starves"
    assert sum(job.tenant == "sly" for job in started) == pytest.approx(85, abs=2)


async def test_time_away_is_no_credit(store: JobStore, new_job: NewJob) -> None:
    await accept(store, new_job(tenant="early"), *(new_job(tenant="busy") for _ in range(50)))
    await starts(store, 30)
    await accept(store, *(new_job(tenant="early") for _ in range(20)))

    started = [job.tenant for job in await starts(store, 10)]
    assert 4 <= started.count("early") <= 6


async def test_end_users_of_a_tenant_take_turns(store: JobStore, new_job: NewJob) -> None:
    await accept(store, *(new_job(user_id="greedy") for _ in range(50)))
    await starts(store, 5)
    await accept(store, new_job(user_id="quiet1"), new_job(user_id="quiet2"), new_job())

    users = [job.user_id for job in await starts(store, 5)]
    assert {"quiet1", "quiet2", None} < set(users)


async def test_jobs_of_one_end_user_keep_their_order(store: JobStore, new_job: NewJob) -> None:
    jobs = [new_job(user_id=f"user-{n % 3}") for n in range(30)]
    await accept(store, *jobs)

    started = await starts(store, 30)
    for user in {job.user_id for job in jobs}:
        mine = [job.id for job in started if job.user_id == user]
        assert mine == sorted(mine)


async def test_capped_tenants_hide_nobody(store: JobStore, new_job: NewJob, book: TenantBook) -> None:
    for number in range(100):
        await book.put_tenant(f"capped{number}", Tenant(limits=Limits(running=1)))
        await accept(store, new_job(tenant=f"capped{number}"), new_job(tenant=f"capped{number}"))
    capped = [(await start(store))[0] for _ in range(100)]
    await accept(store, new_job(tenant="free"))

    assert (await start(store))[1].tenant == "free"
    assert await store.claim("w", ["tiny"]) is None
    await store.finish(capped[7], Outcome(state=JobState.FAILED, error_code="x"))
    assert (await start(store))[1].tenant == "capped" + (await tenant_number(store, capped[7]))
    assert await store.claim("w", ["tiny"]) is None


async def tenant_number(store: JobStore, claim: Claim) -> str:
    record = await store.get(claim.job_id)
    assert record is not None
    return record.job.tenant.removeprefix("capped")


async def test_raised_cap_lets_waiting_jobs_start_at_once(store: JobStore, new_job: NewJob, book: TenantBook) -> None:
    await book.put_plan("small", Terms(limits=Limits(running=1)))
    await book.put_tenant("acme", Tenant(plan="small"))
    await accept(store, *(new_job() for _ in range(3)))
    await start(store)
    assert await store.claim("w", ["tiny"]) is None

    await book.put_plan("small", Terms(limits=Limits(running=2)))

    await start(store)
    assert await store.claim("w", ["tiny"]) is None


async def test_lower_class_waits_but_does_not_starve(store: JobStore, new_job: NewJob) -> None:
    await accept(store, *(new_job(tenant="a", priority=0) for _ in range(200)))
    await accept(store, *(new_job(tenant="b", priority=1) for _ in range(100)))
    await accept(store, *(new_job(tenant="c", priority=2) for _ in range(100)))

    order = [job.priority for job in await starts(store, 100)]

    assert order[:4] == [0] * 4
    assert order.count(1) == pytest.approx(100 / 5, abs=2)
    assert order.count(2) == pytest.approx(100 / 17, abs=2)


async def test_job_handed_back_goes_first_and_is_charged_once(store: JobStore, new_job: NewJob) -> None:
    await accept(store, *(new_job(tenant="a", priority=2, cost_s=5) for _ in range(3)))
    claim, job = await start(store)
    await accept(store, new_job(tenant="b", priority=0), *(new_job(tenant=f"t{n}") for n in range(9)))
    charged = await store.redis.hget(keys.tenancy("virtual", "1:tiny:2"), "a")  # type: ignore[misc]

    assert await store.requeue(claim, "drain", Charge.FREE) is Requeue.QUEUED

    assert (await start(store))[1].id == job.id
    assert await store.redis.hget(keys.tenancy("virtual", "1:tiny:2"), "a") == charged  # type: ignore[misc]
    assert (await start(store))[1].tenant == "b"


async def test_measured_time_corrects_the_share(store: JobStore, new_job: NewJob) -> None:
    """A tenant whose videos take four times the prediction gets a quarter of the starts."""
    await accept(store, *(new_job(tenant="slow", cost_s=1) for _ in range(100)))
    await accept(store, *(new_job(tenant="quick", cost_s=1) for _ in range(100)))
    tenants = []
    for _ in range(50):
        claim, job = await start(store)
        seconds = 4.0 if job.tenant == "slow" else 1.0
        rendered = Rendered(stage_seconds={"denoise": seconds})
        await store.finish(claim, Outcome(state=JobState.SUCCEEDED, rendered=rendered))
        tenants.append(job.tenant)

    assert tenants.count("slow") == pytest.approx(10, abs=2)


async def test_place_follows_the_order_of_claims(store: JobStore, new_job: NewJob) -> None:
    await accept(store, *(new_job(tenant="busy", user_id=f"user-{n % 2}", cost_s=2) for n in range(40)))
    await accept(store, *(new_job(tenant="other", cost_s=2) for _ in range(5)))
    late = new_job(tenant="late", cost_s=2)
    await accept(store, late, *(new_job(tenant="batch", priority=2, cost_s=2) for _ in range(5)))
    last = new_job(tenant="busy", user_id="user-1", cost_s=2)
    await accept(store, last)
    told = {}
    for job in (late, last):
        place = await store.place(job.id)
        assert place is not None
        told[job.id] = place.position

    order = [job.id for job in await starts(store, 52)]

    assert order.index(late.id) + 1 == pytest.approx(told[late.id], abs=1)
    assert order.index(last.id) + 1 == pytest.approx(told[last.id], abs=6)
    assert await store.place(late.id) is None


async def test_cancelled_jobs_leave_no_trace_in_the_order(store: JobStore, new_job: NewJob) -> None:
    jobs = [new_job(user_id=f"user-{n}") for n in range(10)]
    await accept(store, *jobs)
    for job in jobs:
        await store.cancel("acme", job.id)

    assert await store.claim("w", ["tiny"]) is None
    left = [key.decode() for key in await store.redis.keys(keys.TENANCY + "*")]
    kinds = {key.removeprefix(keys.TENANCY).split(":")[0] for key in left}
    assert not kinds & {"turns", "queue", "rounds", "lanes", "backlog", "open", "held", "round"}


def adapted(new_job: NewJob, adapter: str, **changes: object) -> Job:
    job = new_job(**changes)
    return job.model_copy(update={"plan": job.plan.model_copy(update={"adapter": adapter})})


async def claimed_adapter(store: JobStore, held: str) -> str:
    claim = await store.claim("w", ["tiny"], adapter=held)
    assert claim is not None
    record = await store.get(claim.job_id)
    assert record is not None
    return record.job.plan.adapter


async def test_a_worker_is_given_a_near_job_with_the_adapter_it_holds(store: JobStore, new_job: NewJob) -> None:
    await accept(store, *(adapted(new_job, adapter) for adapter in ("a", "b", "a", "b")))

    assert [await claimed_adapter(store, "b") for _ in range(4)] == ["b", "b", "a", "a"]


async def test_a_job_with_another_adapter_is_overtaken_three_times_at_most(store: JobStore, new_job: NewJob) -> None:
    await accept(store, adapted(new_job, "a"), *(adapted(new_job, "b") for _ in range(6)))

    assert [await claimed_adapter(store, "b") for _ in range(5)] == ["b", "b", "b", "a", "b"]


async def test_an_adapter_far_back_in_the_queue_is_not_looked_for(store: JobStore, new_job: NewJob) -> None:
    await accept(store, *(adapted(new_job, "a") for _ in range(20)), adapted(new_job, "b"))

    assert await claimed_adapter(store, "b") == "a"


async def test_no_other_tenant_waits_for_an_adapter(store: JobStore, new_job: NewJob) -> None:
    await accept(store, *(adapted(new_job, "b", tenant="busy") for _ in range(9)))
    await claimed_adapter(store, "b")
    await accept(store, adapted(new_job, "", tenant="late"))

    assert await claimed_adapter(store, "b") == "", "its turn came, whatever the worker holds"


async def test_a_job_handed_back_is_overtaken_by_nobody(store: JobStore, new_job: NewJob) -> None:
    await accept(store, adapted(new_job, "a"), adapted(new_job, "b"))
    claim, _ = await start(store)
    await store.requeue(claim, "drained", Charge.FREE)

    assert await claimed_adapter(store, "b") == "a"
