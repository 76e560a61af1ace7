"""Fair shares, accepting behind a long queue, and predicted waits, by simulated workers on the real scripts."""

import random
import statistics
import time
from collections.abc import Callable

import pytest

from tests.simulation import Pool, accept, jain, max_min_shares
from video_jobs.job import Job
from video_jobs.limits import Ask
from video_jobs.store import JobStore

NewJob = Callable[..., Job]
LOADS = {"a": 9600, "b": 100, "c": 100, "d": 100, "e": 100}
COSTS = (10.0, 20.0, 40.0)


@pytest.mark.timeout(600)
async def test_five_tenants_share_fairly_behind_ten_thousand_jobs(
    store: JobStore, new_job: NewJob, capsys: pytest.CaptureFixture[str]
) -> None:
    luck = random.Random(7)
    await accept_times(store, new_job, "warm")
    empty, empty_us = await accept_times(store, new_job, "empty")
    jobs = [
        new_job(tenant=name, cost_s=luck.choice(COSTS), user_id=f"user-{luck.randrange(9)}")
        for name, count in LOADS.items()
        for _ in range(count)
    ]
    luck.shuffle(jobs)
    await accept(store, jobs)
    full, full_us = await accept_times(store, new_job, "full")
    for line in ("empty", "full", "warm"):
        await drain(store, line)

    pool = Pool(store, workers=8, seconds=lambda job: job.cost_s)
    demands = {name: sum(job.cost_s for job in jobs if job.tenant == name) for name in LOADS}
    found = {}
    for horizon in (100, 250, 500, 1000):
        await pool.run(lambda count=horizon: len(pool.ended) >= count)
        received = {name: sum(end.job.cost_s for end in pool.ended if end.job.tenant == name) for name in LOADS}
        shares = max_min_shares(demands, sum(received.values()))
        found[horizon] = jain(received[name] / shares[name] for name in LOADS)

    late = new_job(tenant="late", cost_s=40)
    await accept(store, [late])
    started_before = len(pool.ended)
    await pool.run(lambda: any(end.job.tenant == "late" for end in pool.ended))
    slots = (
        next(end.started_s for end in pool.ended if end.job.tenant == "late") - pool.ended[started_before - 1].ended_s
    )

    with capsys.disabled():
        print(f"\nJain index after so many jobs: { {count: round(value, 4) for count, value in found.items()} }")
        print(f"late tenant started {slots:.0f} s after it came, one slot is at most {max(COSTS):.0f} s")
        print(f"accept p50/p99 ms: empty {percentiles(empty)}, with 10,000 queued {percentiles(full)}")
        print(f"of it in Redis, µs a script: empty {empty_us:.0f}, with 10,000 queued {full_us:.0f}")
    assert min(found.values()) >= 0.95
    assert slots <= max(COSTS)


async def accept_times(store: JobStore, new_job: NewJob, line: str) -> tuple[list[float], float]:
    """Milliseconds of admit and accept together, on a line that no simulated worker serves; and Redis's own mean."""
    times = []
    await store.redis.config_resetstat()
    for _ in range(400):
        job = new_job(tenant="timed", route=line)
        started = time.perf_counter()
        await store.admit(job.tenant, job.request_id, job.body_hash, job.id, Ask(cost_s=1, route=line))
        await store.accept(job)
        times.append(1000 * (time.perf_counter() - started))
    used = await store.redis.info("commandstats")
    return times, float(used["cmdstat_evalsha"]["usec_per_call"])


async def drain(store: JobStore, line: str) -> None:
    while claim := await store.claim("drain", [line]):
        await store.cancel("timed", claim.job_id)


def percentiles(times: list[float]) -> str:
    marks = statistics.quantiles(times, n=100)
    return f"{marks[49]:.2f}/{marks[98]:.2f}"


@pytest.mark.long
async def test_predicted_waits_come_near(store: JobStore, new_job: NewJob, capsys: pytest.CaptureFixture[str]) -> None:
    """Five tenants, three classes; renders take up to a quarter longer or a fifth shorter than predicted."""
    luck, workers = random.Random(11), 4
    lengths = {}

    def seconds(job: Job) -> float:
        return lengths.setdefault(job.id, job.cost_s * luck.uniform(0.8, 1.25))

    pool, told = Pool(store, workers, seconds), {}
    await accept(store, [coming(new_job, luck) for _ in range(60)])
    while pool.now_s < 6000:
        job = coming(new_job, luck)
        await accept(store, [job])
        place = await store.place(job.id, workers)
        if place is not None and pool.now_s > 300:
            told[job.id] = (pool.now_s, place.eta_s)
        # As much comes as can be rendered.
        await pool.run_to(pool.now_s + luck.expovariate(workers / statistics.mean(COSTS)))
    await pool.run(lambda: False)

    ends = {end.job.id: end.ended_s for end in pool.ended}
    errors = sorted(abs(eta - (ends[name] - at)) / (ends[name] - at) for name, (at, eta) in told.items())
    tenth, median, ninth = (errors[len(errors) * part // 10] for part in (1, 5, 9))
    with capsys.disabled():
        print(f"\nETA error of {len(errors)} jobs: tenth {tenth:.0%}, median {median:.0%}, nine tenths {ninth:.0%}")
    assert median <= 0.3


def coming(new_job: NewJob, luck: random.Random) -> Job:
    tenant = luck.choices("abcde", weights=[60, 10, 10, 10, 10])[0]
    priority = luck.choices([0, 1, 2], weights=[1, 8, 1])[0]
    return new_job(tenant=tenant, cost_s=luck.choice(COSTS), user_id=f"user-{luck.randrange(4)}", priority=priority)
