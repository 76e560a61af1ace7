"""arq's worker, with our own claims: arq gives the life cycle, our scripts decide who holds a job and how it ends."""

import asyncio
import contextlib
import json
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from arq.connections import ArqRedis
from arq.worker import Worker, func
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gpu_worker.lease import LeaseEnd
from gpu_worker.metrics import WorkerMetrics
from gpu_worker.task import JobRun
from gpu_worker.workshop import Workshop
from video_jobs import chores, keys
from video_jobs.errors import JobError
from video_jobs.job import Claim
from video_jobs.queue import to_json
from video_jobs.reaper import run_reaper
from video_jobs.verdicts import Charge
from video_jobs.workers import WorkerRegistry

ANNOUNCE_EVERY_SECONDS, NAP_SECONDS, QUIET_SECONDS, REDIS_PAUSE_SECONDS = 5.0, 2.0, 5.0, 0.2
BROKEN_DRAIN_SECONDS = 10.0
MAX_JOBS = 3
"""One renders; the clips before it may still be finished and uploaded."""

logger = logging.getLogger(__name__)


async def render_video(_ctx: dict[str, Any], job_id: str) -> None:
    """The one function arq knows; the work is `VideoWorker.run_job`."""
    raise RuntimeError(f"{job_id} was not claimed")


class VideoWorker(Worker):  # type: ignore[misc]
    def __init__(self, shop: Workshop, redis: ArqRedis, routes: list[str]) -> None:
        super().__init__(
            functions=[func(render_video, name="render_video")],
            redis_pool=redis,
            handle_signals=False,
            max_jobs=MAX_JOBS,
            job_serializer=to_json,
            job_deserializer=json.loads,
        )
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self.runs: dict[str, JobRun] = {}
        self._shop = shop
        self._routes = routes
        self._registry = WorkerRegistry(redis)
        self._device = asyncio.Semaphore(1)
        self._room = asyncio.Semaphore(MAX_JOBS)
        self._stopping = asyncio.Event()
        self._drain_s = 0.0
        self._handing_back: asyncio.Task[None] | None = None

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def engine_is_ready(self) -> bool:
        return self._shop.engine.is_ready

    @property
    def metrics(self) -> WorkerMetrics:
        return self._shop.metrics

    @property
    def engine_start_s(self) -> float:
        return self._shop.engine.start_s

    @property
    def is_rendering(self) -> bool:
        return self._shop.rendering.locked()

    def scratch_free(self) -> float:
        return self._shop.scratch.free_bytes()

    def trouble(self) -> str | None:
        """Why this worker takes no jobs, if so."""
        if self.is_stopping:
            return "stopping"
        return self._shop.scratch.trouble() or (None if self.engine_is_ready else "engine not ready")

    async def main(self) -> None:
        """Claim and run until told to stop; then see the runs to their end."""
        # Loading can take minutes; a worker that is told to stop meanwhile stops.
        loops = [self._starts_and_claims(), self._hears_cancels(), self._announces()]
        loops.append(run_reaper(self._shop.store, on_reaped=self._shop.metrics.reaped))
        running = [asyncio.create_task(loop) for loop in loops]
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([stopping, *running], return_when=asyncio.FIRST_COMPLETED)
        broken = next((task for task in running if task.done()), None)
        if broken is not None:
            # A worker that only seems to work is worse than one that ends and is started again.
            logger.error("the worker is broken", exc_info=broken.exception())
            self.drain(BROKEN_DRAIN_SECONDS)
        await chores.end({stopping, *running})
        if self._handing_back is not None:
            await self._handing_back
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)
        with contextlib.suppress(RedisError, OSError):
            await self._registry.leave(self.name)
        await asyncio.gather(self._shop.engine.kill(), self._shop.finisher.kill())
        if broken is not None:
            broken.result()

    def drain(self, limit_s: float) -> None:
        """Take no new job and hand back those in hand; nobody is charged."""
        self._stopping.set()
        self._drain_s = limit_s
        for run in self.runs.values():
            run.drain(limit_s)

    async def run_job(self, job_id: str, score: int) -> None:
        """One claimed job to its end. arq's own keys and results are not used."""
        run = self.runs[job_id]
        try:
            await run.run()
        except Exception:
            logger.exception("run ended badly", extra={"job_id": job_id})

    async def _start_children(self) -> None:
        while not self.is_stopping:
            try:
                await asyncio.gather(self._shop.engine.start(), self._shop.finisher.start())
                return
            except (JobError, OSError, TimeoutError) as exc:
                logger.error("a child did not start", extra={"error": repr(exc)})

    async def _starts_and_claims(self) -> None:
        await self._start_children()
        await self._claims()

    async def _claims(self) -> None:
        while True:
            await self._room.acquire()
            await self._device.acquire()
            self._take(await self._next_claim())

    async def _next_claim(self) -> Claim:
        # Asked again after a lost reply, the same nonce gets the same job.
        nonce = secrets.token_hex(8)
        while True:
            try:
                if await self._can_work():
                    claim = await self._claim(nonce)
                    if claim is not None:
                        return claim
                    nonce = secrets.token_hex(8)
                    await self._shop.store.wait_for_work(self._routes, NAP_SECONDS)
            except (RedisError, OSError) as exc:
                logger.warning("waiting for redis", extra={"dependency": "redis", "error": type(exc).__name__})
                await asyncio.sleep(REDIS_PAUSE_SECONDS)

    async def _claim(self, nonce: str) -> Claim | None:
        asking = asyncio.ensure_future(self._shop.store.claim(self.name, self._routes, nonce, self._shop.adapter))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            # Told to stop in the middle: what the script gives is handed back, not left to its lease.
            self._handing_back = asyncio.create_task(self._hand_back(asking))
            raise

    async def _hand_back(self, asking: Awaitable[Claim | None]) -> None:
        with contextlib.suppress(RedisError, OSError):
            if (claim := await asking) is not None:
                await self._shop.store.requeue(claim, "drained", Charge.FREE)

    async def _can_work(self) -> bool:
        """No job is taken that this worker could only fail."""
        if full := self._shop.scratch.trouble():
            logger.error("out of rotation", extra={"why": full})
            await asyncio.sleep(NAP_SECONDS)
            return False
        try:
            await asyncio.gather(self._shop.engine.start(), self._shop.finisher.start())
        except JobError as error:
            logger.error("a child did not start", extra={"error": repr(error)})
            return False
        return True

    def _take(self, claim: Claim) -> None:
        run = JobRun(self._shop, claim, _once(self._device.release), list(self.tasks.values()))
        self.runs[claim.job_id] = run
        task = asyncio.create_task(self.run_job(claim.job_id, 0))
        self.tasks[claim.job_id] = task
        task.add_done_callback(lambda _: self._forget(run))
        if self.is_stopping:
            # Claimed in the moment of the stop, before this loop was ended.
            run.drain(self._drain_s)

    def _forget(self, run: JobRun) -> None:
        self._room.release()
        if self.runs.get(run.claim.job_id) is run:
            del self.runs[run.claim.job_id], self.tasks[run.claim.job_id]

    async def _hears_cancels(self) -> None:
        while True:
            try:
                async with self.pool.pubsub() as heard:
                    await heard.subscribe(keys.CANCELS)
                    await self._hears(heard)
            except (RedisError, OSError):
                await asyncio.sleep(REDIS_PAUSE_SECONDS)

    async def _hears(self, heard: PubSub) -> None:
        """Until the connection is lost. After a while without news a ping tells; it also keeps the way open."""
        is_asked = False
        while True:
            message = await heard.get_message(timeout=QUIET_SECONDS)
            if message is not None:
                self._cancel(message)
            elif is_asked:
                raise RedisTimeoutError("no answer to a ping")
            else:
                await heard.ping()
            is_asked = message is None

    def _cancel(self, message: dict[str, Any]) -> None:
        if message["type"] == "message" and (run := self.runs.get(message["data"].decode())):
            run.lease.end(LeaseEnd.CANCELLED)

    async def _announces(self) -> None:
        while True:
            ready, trouble = self._shop.engine.ready, self.trouble()
            with contextlib.suppress(RedisError, OSError):
                if ready is not None and trouble is None:
                    await self._registry.announce(self.name, self._routes, ready.alphabet)
                elif self._shop.scratch.trouble():
                    await self._registry.leave(self.name)
            await asyncio.sleep(ANNOUNCE_EVERY_SECONDS)


def _once(release: Callable[[], None]) -> Callable[[], None]:
    """Called when rendering is over and again when the run is: only the first counts."""
    calls = iter([release])
    return lambda: next(calls, lambda: None)()
