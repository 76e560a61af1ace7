"""What the gateways' gauges and an operator's `queue status` count."""

from collections.abc import Callable

from prometheus_client import generate_latest

from server.metrics import GatewayMetrics
from video_jobs import keys
from video_jobs.census import take_census
from video_jobs.job import Job
from video_jobs.limits import ServiceClass
from video_jobs.store import JobStore
from video_jobs.verdicts import Charge
from video_jobs.workers import WorkerRegistry

NewJob = Callable[..., Job]
BATCH, STANDARD = ServiceClass.BATCH, ServiceClass.STANDARD


async def test_every_job_is_counted_where_it_stands(store: JobStore, new_job: NewJob) -> None:
    for job in (new_job(), new_job(), new_job(priority=BATCH), new_job(route="large")):
        await store.accept(job)
    running = await store.claim("w", ["tiny"])
    assert running is not None
    slow = JobStore(store.redis, retry_s=60)
    late = await slow.claim("w", ["large"])
    assert late is not None
    await slow.requeue(late, "upload_failed", Charge.ATTEMPT)
    await WorkerRegistry(store.redis).announce("w1", ["tiny"], "*")
    await store.pause("large", "me")

    census = await take_census(store.redis, ["large"])

    assert {line: count for line, count in census.queued.items() if count} == {
        ("tiny", STANDARD): 1,
        ("tiny", BATCH): 1,
    }
    assert (census.running, census.workers) == ({"tiny": 1, "large": 0}, {"tiny": 1, "large": 0})
    assert (census.delayed, census.dead, census.paused, census.overdue) == (1, 0, 1, 0)
    assert census.audit_backlog == await store.redis.llen(keys.AUDIT)


async def test_waits_and_lost_leases_are_told(store: JobStore, new_job: NewJob) -> None:
    waiting, lost = new_job(), new_job()
    await store.accept(lost)
    await store.claim("w", ["tiny"])
    await store.accept(waiting)
    await store.redis.hincrby(keys.job(waiting.id), "accepted_ms", -60_000)
    await store.redis.zadd(keys.LEASES, {lost.id: 1})

    census = await take_census(store.redis, ["tiny"])

    assert 59 < census.oldest_s["tiny", STANDARD] < 90
    assert census.overdue == 1


async def test_gauges_show_the_census(store: JobStore, new_job: NewJob) -> None:
    await store.accept(new_job())
    metrics = GatewayMetrics()

    metrics._stand.show(await take_census(store.redis, ["tiny"]))

    page = generate_latest(metrics.registry).decode()
    assert 'cogvideox_jobs_queued{class="standard",route="tiny"} 1.0' in page
    assert 'cogvideox_jobs_queued{class="batch",route="tiny"} 0.0' in page


async def test_gauges_forget_a_route_that_nobody_tells_of_any_more(store: JobStore) -> None:
    metrics, registry = GatewayMetrics(), WorkerRegistry(store.redis)
    await registry.announce("w1", ["large"], "*")
    metrics._stand.show(await take_census(store.redis, ["tiny"]))
    before = generate_latest(metrics.registry).decode()

    await registry.leave("w1")
    metrics._stand.show(await take_census(store.redis, ["tiny"]))

    assert 'cogvideox_workers_ready{route="large"} 1.0' in before
    assert 'route="large"' not in generate_latest(metrics.registry).decode()
