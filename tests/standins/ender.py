"""A worker's calls without a worker: takes each job, waits a moment (or longer) and ends it, as its prompt asks."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

from tests.gateway import Gateway
from video_jobs.job import JobState, Outcome, VideoFile
from video_jobs.queue import lazy_redis
from video_jobs.store import JobStore

SLOW_SECONDS = 3.0


@contextlib.contextmanager
def stand_in_worker(gateway: Gateway, render_s: float) -> Iterator[None]:
    """Ends each job as its prompt asks, after a moment, by the same calls that a worker makes."""
    for name in ("video.mp4", "cover.jpg"):
        file = gateway.state / "results" / "videos" / "made" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(1000))
    over = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_work(gateway.redis_url, over, render_s)))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def _work(redis_url: str, over: threading.Event, render_s: float) -> None:
    redis = lazy_redis(redis_url)
    store = JobStore(redis)
    try:
        while not over.is_set():
            claim = await store.claim("worker", ["tiny"])
            if claim is None:
                await asyncio.sleep(0.05)
                continue
            record = await store.get(claim.job_id)
            assert record is not None
            prompt = record.job.spec.prompt
            await asyncio.sleep(SLOW_SECONDS if "slowly" in prompt else render_s)
            await store.finish(claim, _outcome(prompt))
    finally:
        await redis.aclose()


def _outcome(prompt: str) -> Outcome:
    if "fail" in prompt:
        return Outcome(state=JobState.FAILED, error_code="engine_died", error_message="as asked")
    video = VideoFile(key="videos/made/video.mp4", cover_key="videos/made/cover.jpg", size_bytes=1000, sha256="")
    return Outcome(state=JobState.SUCCEEDED, video=video)
