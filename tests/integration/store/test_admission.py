import asyncio
from collections.abc import Callable

from arq.connections import ArqRedis

from video_jobs.job import Job
from video_jobs.store import JobStore
from video_jobs.verdicts import Verdict

NewJob = Callable[..., Job]


async def test_one_of_fifty_copies_is_new(store: JobStore) -> None:
    answers = await asyncio.gather(*(store.admit("acme", "r1", "same", str(n)) for n in range(50)))

    assert [answer.verdict for answer in answers].count(Verdict.NEW) == 1
    assert {answer.job_id for answer in answers} == {next(a.job_id for a in answers if a.verdict is Verdict.NEW)}


async def test_request_id_answers_by_its_body(store: JobStore, new_job: NewJob) -> None:
    job = new_job()
    assert (await store.admit("acme", job.request_id, "same", job.id)).verdict is Verdict.NEW
    assert (await store.admit("acme", job.request_id, "same", job.id)).verdict is Verdict.NEW
    assert (await store.admit("acme", job.request_id, "same", "other")).verdict is Verdict.PENDING
    await store.accept(job)

    assert (await store.admit("acme", job.request_id, "same", "other")).verdict is Verdict.REPLAY
    assert (await store.admit("acme", job.request_id, "another", "other")).verdict is Verdict.CONFLICT
    assert (await store.admit("globex", job.request_id, "same", "other")).verdict is Verdict.NEW


async def test_released_request_id_is_free_and_an_accepted_one_stays(store: JobStore, new_job: NewJob) -> None:
    job = new_job()
    await store.admit("acme", job.request_id, "same", job.id)
    await store.release("acme", job.request_id, "another")
    assert (await store.admit("acme", job.request_id, "same", "other")).verdict is Verdict.PENDING
    await store.release("acme", job.request_id, job.id)
    await store.release("acme", job.request_id, job.id)
    assert (await store.admit("acme", job.request_id, "same", job.id)).verdict is Verdict.NEW
    await store.accept(job)
    await store.release("acme", job.request_id, job.id)
    assert (await store.admit("acme", job.request_id, "same", "other")).verdict is Verdict.REPLAY


async def test_reservation_of_a_dead_gateway_expires(redis_client: ArqRedis, new_job: NewJob) -> None:
    store = JobStore(redis_client, reserve_s=0.02)
    slow, quick = new_job(request_id="r"), new_job(request_id="r")
    await store.admit("acme", "r", "same", slow.id)
    await asyncio.sleep(0.05)

    assert (await store.admit("acme", "r", "same", quick.id)).verdict is Verdict.NEW
    assert await store.accept(quick) == quick.id
    assert await store.accept(slow) == quick.id
    assert await store.get(slow.id) is None
