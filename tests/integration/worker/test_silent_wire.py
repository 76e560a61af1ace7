"""Connections that somebody on the way has forgotten: nothing comes, and nothing says that nothing will."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpu_worker import worker as workers
from gpu_worker.worker import VideoWorker
from gpu_worker.workshop import Workshop
from tests.integration.worker.shop import close_shop, open_shop
from video_jobs import queue
from video_jobs.job import JobState, Stage
from video_jobs.queue import open_redis
from video_jobs.store import JobStore

ANSWER_SECONDS = 2.5


class Wire:
    """Passes bytes between a worker and Redis, until it forgets the connections that are open."""

    def __init__(self, folder: Path, upstream: Path) -> None:
        self.path, self._upstream = folder / "wire.sock", upstream
        self._pumps: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(self._upstream)
        self._writers += [writer, up_writer]
        self._pumps |= {asyncio.create_task(pump(reader, up_writer)), asyncio.create_task(pump(up_reader, writer))}

    def forget(self) -> None:
        """New connections are as good as ever."""
        for task in self._pumps:
            task.cancel()

    def close(self) -> None:
        self.forget()
        for writer in self._writers:
            writer.close()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
        writer.close()


@pytest.fixture
async def wire(tmp_path: Path, redis_socket: Path) -> AsyncIterator[Wire]:
    wire = Wire(tmp_path, redis_socket)
    async with await asyncio.start_unix_server(wire.serve, wire.path):
        yield wire
        wire.close()


@pytest.fixture
async def worker(wire: Wire, redis_url: str, tmp_path: Path, monkeypatch) -> AsyncIterator[VideoWorker]:
    monkeypatch.setattr(queue, "ANSWER_SECONDS", ANSWER_SECONDS)
    monkeypatch.setattr(workers, "QUIET_SECONDS", 0.5, raising=False)
    redis = await open_redis(f"unix://{wire.path}")
    shop: Workshop = open_shop(JobStore(redis, lease_s=60), tmp_path, step_s=0.2)
    await asyncio.gather(shop.engine.start(), shop.finisher.start())
    worker = VideoWorker(shop, redis, ["tiny"])
    working = asyncio.create_task(worker.main())
    yield worker
    worker.drain(1)
    await working
    await close_shop(shop)
    await redis.aclose()


async def test_idle_worker_whose_connections_were_forgotten_claims_again(worker, wire, store, queue_job, wait) -> None:
    await asyncio.sleep(0.5)

    wire.forget()
    record = await wait(store, await queue_job(), lambda record: record.state is JobState.RUNNING, 4 * ANSWER_SECONDS)

    assert len(record.attempts) == 1


async def test_worker_hears_of_cancels_again_after_its_connections_were_forgotten(
    worker, wire, store, queue_job, wait
) -> None:
    job = await queue_job()
    await wait(store, job, lambda record: record.stage is Stage.DENOISE)

    wire.forget()
    await asyncio.sleep(2)
    heard = await store.redis.pubsub_numsub("{cogvideox}:cancels")
    await store.cancel("acme", job.id)
    await wait(store, job, lambda record: record.state.is_final, 10)

    assert heard == [(b"{cogvideox}:cancels", 2)], "the forgotten connection, and a new one"
