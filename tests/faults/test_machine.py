"""The short walk of the scripts beside their model; the long one is `make machine`."""

from collections import Counter

import pytest
from arq.connections import ArqRedis

from tests.faults.machine import EVENTS, explore, follow, private_redis
from tests.faults.mutants import MUTANTS
from tests.faults.rules import HOUR_MS
from tests.faults.scripts import ClockedStore
from video_jobs import keys
from video_jobs.verdicts import Verdict


@pytest.mark.timeout(300)
def test_scripts_and_model_agree_through_every_directed_event() -> None:
    counted: Counter[str] = Counter()
    with private_redis() as url:
        # What a seed draws depends on the modules that happen to be loaded: some events are rare.
        for number in range(5, 10):
            counted += explore(url, examples=25, chosen_seed=number)
            if all(counted[event] for event in EVENTS):
                break

    assert not [event for event in EVENTS if counted[event] == 0], counted


@pytest.mark.parametrize("bug", MUTANTS)
def test_a_seeded_bug_of_the_scripts_is_caught_by_its_schedule(bug: str) -> None:
    schedule = MUTANTS[bug].schedule
    with private_redis() as url:
        follow(url, schedule)
        with pytest.raises(AssertionError):
            follow(url, schedule, bug)


async def test_a_clock_that_went_back_closes_no_tenant_out(redis_client: ArqRedis) -> None:
    store = ClockedStore(redis_client)
    await redis_client.hset(keys.tenancy("plan", "default"), mapping={"requests_per_minute": 2})

    async def verdicts(now_ms: int, *names: str) -> list[Verdict]:
        await store.set_clock(now_ms)
        return [(await store.admit("acme", name, "same", name)).verdict for name in names]

    assert await verdicts(10**12, "a", "b", "c") == [Verdict.NEW, Verdict.NEW, Verdict.LIMITED]
    assert await verdicts(10**12 - HOUR_MS, "d", "e", "f") == [Verdict.NEW, Verdict.NEW, Verdict.LIMITED]
