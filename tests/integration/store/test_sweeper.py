"""What is deleted, when, and what never is. On files whose age is set by hand."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from video_jobs import keys
from video_jobs.job import Claim, ImageRef, Job, JobState, Outcome, VideoFile
from video_jobs.results import FolderStore
from video_jobs.store import JobStore
from video_jobs.sweeper import DAY_SECONDS, Sweeper
from video_jobs.verdicts import Charge

NewJob = Callable[..., Job]
RETENTION_DAYS = 30


@pytest.fixture
def results(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "results")


@pytest.fixture
def sweeper(store: JobStore, results: FolderStore) -> Sweeper:
    return Sweeper(store, results, RETENTION_DAYS * DAY_SECONDS)


def put(results: FolderStore, key: str, days_old: float) -> Path:
    path = results.path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    at = time.time() - days_old * DAY_SECONDS
    os.utime(path, (at, at))
    return path


async def claim_of(store: JobStore) -> Claim:
    claim = await store.claim("w", ["tiny"])
    assert claim is not None
    return claim


async def succeeded(store: JobStore, results: FolderStore, job: Job, days_ago: float) -> list[Path]:
    home = f"videos/{job.id}/1-ab"
    video = VideoFile(key=f"{home}/video.mp4", cover_key=f"{home}/cover.jpg", size_bytes=1, sha256="00")
    paths = [put(results, key, days_ago) for key in (video.key, video.cover_key)]
    await store.accept(job)
    await store.finish(await claim_of(store), Outcome(state=JobState.SUCCEEDED, video=video))
    ended_ms = (time.time() - days_ago * DAY_SECONDS) * 1000
    await store.redis.zadd(keys.schedule("ended"), {job.id: ended_ms})
    return paths


async def test_job_past_its_retention_is_gone_and_its_audit_stays(
    store: JobStore, results: FolderStore, sweeper: Sweeper, new_job: NewJob
) -> None:
    old, young = new_job(), new_job()
    old_files = await succeeded(store, results, old, 31)
    young_files = await succeeded(store, results, young, 29)
    recorded = await store.redis.llen(keys.AUDIT)

    assert await sweeper.sweep_jobs() == 1
    assert await sweeper.sweep_objects() == 0

    assert await store.get(old.id) is None
    assert await store.find(old.tenant, old.request_id) == (old.id, old.body_hash), "that has a time of its own"
    assert [record.job.id for record in await store.newest("acme", 10) or []] == [young.id]
    assert not any(path.exists() for path in old_files)
    assert all(path.exists() for path in young_files)
    assert await store.redis.llen(keys.AUDIT) == recorded + 1


async def test_retention_is_counted_by_the_clock_that_wrote_the_end(
    store: JobStore, results: FolderStore, sweeper: Sweeper, new_job: NewJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = new_job()
    files = await succeeded(store, results, job, 1)
    ahead = time.time() + 60 * DAY_SECONDS
    monkeypatch.setattr(time, "time", lambda: ahead)

    assert await sweeper.sweep_jobs() == 0

    assert all(path.exists() for path in files)


async def test_open_jobs_never_expire(store: JobStore, sweeper: Sweeper, new_job: NewJob) -> None:
    job = new_job()
    await store.accept(job)

    assert await sweeper.sweep_jobs() == 0
    assert not await store.expire(job, 2**53)
    assert await store.get(job.id)


async def test_what_zombies_and_crashes_left_is_swept(
    store: JobStore, results: FolderStore, sweeper: Sweeper, new_job: NewJob
) -> None:
    done, running = new_job(), new_job()
    published = await succeeded(store, results, done, 1)
    await store.accept(running)
    await claim_of(store)
    garbage = [
        put(results, f"videos/{done.id}/2-cd/video.mp4", 1),
        put(results, f"videos/{done.id}/1-ab/.video.mp4.half", 1),
        put(results, f"checkpoints/{done.id}/1-ab/20.safetensors", 1),
        put(results, f"videos/{'9' * 25}/1-ab/video.mp4", 31),
    ]
    kept = [
        put(results, f"videos/{done.id}/3-ef/video.mp4", 0),
        put(results, f"videos/{running.id}/1-ab/video.mp4", 1),
        put(results, f"checkpoints/{running.id}/1-ab/20.safetensors", 1),
        put(results, f"videos/{'9' * 25}/2-cd/video.mp4", 29),
        put(results, "audit/2026/11/21.jsonl", 400),
    ]

    assert await sweeper.sweep_objects() == len(garbage)

    assert [path.exists() for path in garbage] == [False] * len(garbage)
    assert [path.exists() for path in [*published, *kept]] == [True] * (len(published) + len(kept))


async def test_deleted_result_is_swept_though_its_delete_failed(
    store: JobStore, results: FolderStore, sweeper: Sweeper, new_job: NewJob
) -> None:
    job = new_job()
    files = await succeeded(store, results, job, 1)
    await store.forget("acme", job.id)

    assert await sweeper.sweep_objects() == len(files)


async def test_image_stays_while_a_job_needs_it(
    store: JobStore, results: FolderStore, sweeper: Sweeper, new_job: NewJob
) -> None:
    image = put(results, "images/ab.png", 60)
    jobs = [new_job(), new_job()]
    ref = ImageRef(key="images/ab.png", sha256="ab", width=1, height=1)
    for job in jobs:
        await store.accept(job.model_copy(update={"spec": job.spec.model_copy(update={"image": ref})}))
    put(results, "images/cd.png", 36)

    assert await sweeper.sweep_objects() == 0
    await store.finish(await claim_of(store), Outcome(state=JobState.SUCCEEDED))
    assert await sweeper.sweep_objects() == 0
    await store.finish(await claim_of(store), Outcome(state=JobState.SUCCEEDED))

    assert await sweeper.sweep_objects() == 1
    assert not image.exists()


async def test_checkpoint_of_a_job_that_ended_outside_a_worker_is_deleted(
    store: JobStore, results: FolderStore, sweeper: Sweeper, new_job: NewJob
) -> None:
    ended, going_on = new_job(), new_job()
    paths, claims = {}, []
    for job in (ended, going_on):
        await store.accept(job)
        claims.append(await claim_of(store))
        key = f"checkpoints/{job.id}/1-ab/4.safetensors"
        paths[job.id] = put(results, key, days_old=0)
        await store.checkpointed(claims[-1], key, 4)
    for claim in claims:
        await store.requeue(claim, "drained", Charge.FREE)
    await store.cancel(ended.tenant, ended.id)

    assert await sweeper.sweep_checkpoints() == 1
    assert await sweeper.sweep_checkpoints() == 0

    assert not paths[ended.id].exists()
    assert paths[going_on.id].exists()


async def test_operators_retry_starts_anew(store: JobStore, new_job: NewJob) -> None:
    job = new_job()
    await store.accept(job)
    claim = await claim_of(store)
    await store.checkpointed(claim, "checkpoints/1/1-ab/4.safetensors", 4)
    await store.finish(claim, Outcome(state=JobState.FAILED, error_code="internal_fault", error_message="x"))

    await store.retry(job.id, "operator")

    record = await store.get(job.id)
    assert record is not None
    assert (record.state, record.checkpoint) == (JobState.QUEUED, None)
