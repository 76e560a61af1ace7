"""One job from claim to result: prepare, render, finish, upload, publish."""

import asyncio
import errno
import hashlib
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from redis.exceptions import RedisError

from gpu_worker.engine.process import Child
from gpu_worker.engine.protocol import Done, Finish, Message, Prepared, Progress, Render
from gpu_worker.lease import Lease, LeaseEnd
from gpu_worker.prepare import HttpRewriter
from gpu_worker.scratch import Scratch
from video_jobs.catalogue import Catalogue
from video_jobs.cost import stage_seconds
from video_jobs.errors import (
    EngineDied,
    EngineHung,
    ImageUnreadable,
    InternalFault,
    JobCancelled,
    JobError,
    UploadFailed,
    WorkerDiskFull,
)
from video_jobs.job import Claim, JobRecord, JobState, Outcome, Rendered, Stage, VideoFile
from video_jobs.results import ResultStore
from video_jobs.store import Charge, JobStore

MIN_SILENCE_SECONDS = 120.0
UPLOAD_TRIES, REDIS_PAUSE_SECONDS, ANSWER_SECONDS = 8, 0.5, 5.0

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass
class Workshop:
    """What every job of this worker shares."""

    store: JobStore
    results: ResultStore
    catalogue: Catalogue
    engine: Child
    finisher: Child
    rewriter: HttpRewriter | None
    scratch: Scratch
    hang_factor: float
    on_end: Callable[[str, dict[str, float]], None] = lambda _how, _stage_seconds: None
    """Told how every attempt ended, and the seconds of its stages."""

    finishing: asyncio.Lock = field(default_factory=asyncio.Lock)


class JobRun:
    """One attempt at one job. `free_device` is called as soon as the next job may render."""

    def __init__(self, shop: Workshop, claim: Claim, free_device: Callable[[], None]) -> None:
        self._shop = shop
        self._free_device = free_device
        self._child: Child | None = None
        self._folder = shop.scratch.path(claim)
        self._rendered = Rendered()
        self._prepared_s: dict[str, float] = {}
        self._prompt: asyncio.Task[object] | None = None
        self.claim = claim
        self.lease = Lease(shop.store, claim, self._stop_child)

    async def run(self) -> None:
        """Make the video and publish how it went. Only the token decides whether that counts."""
        beating = asyncio.create_task(self.lease.keep())
        try:
            await self._close(await self._outcome())
        finally:
            self._free_device()
            beating.cancel()
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _outcome(self) -> Outcome | JobError:
        try:
            record = await patiently(lambda: self._shop.store.get(self.claim.job_id))
            if record is None:
                return InternalFault("the record is gone")
            return await self._make(record)
        except JobError as error:
            return error
        except OSError as error:
            return WorkerDiskFull() if error.errno == errno.ENOSPC else InternalFault(repr(error))
        except Exception as error:
            logger.exception("attempt failed", extra={"job_id": self.claim.job_id})
            return InternalFault(repr(error))

    async def _make(self, record: JobRecord) -> Outcome:
        self._folder.mkdir(parents=True, exist_ok=True)
        # However this attempt ends, the rewrite of an earlier one stays in the record.
        self._rendered = record.rendered
        frames = self._folder / "frames.npy"
        done = await self._render(record, frames)
        self._free_device()
        video, cover = self._folder / "video.mp4", self._folder / "cover.jpg"
        finished = await self._finish(record, frames, video, cover)
        started = time.monotonic()
        stored = await self._upload(video, cover)
        seconds = self._prepared_s | done.stage_seconds | finished.stage_seconds
        seconds[Stage.UPLOAD.value] = round(time.monotonic() - started, 3)
        stages = done.stages | finished.stages | _missing_stages(record)
        rendered = self._rendered.model_copy(update={"stage_seconds": seconds, "stages": stages})
        return Outcome(state=JobState.SUCCEEDED, rendered=rendered, video=stored)

    async def _render(self, record: JobRecord, frames: Path) -> Done:
        image = await self._fetch_image(record)
        ready = await self._shop.engine.start()
        versions = {name: value for name, value in ready.versions.items() if name in Rendered.model_fields}
        digest = record.job.plan.digest()
        self._rendered = self._rendered.model_copy(update={"preset_digest": digest, **versions})
        prompt, is_rewritten = await self._prepare(record)
        job = Render(
            job_id=self.claim.job_id,
            token=self.claim.token,
            prompt=prompt,
            is_rewritten=is_rewritten,
            image_path=str(image) if image else None,
            plan=record.job.plan,
            seed=record.job.spec.seed,
            frames_path=str(frames),
        )
        return await self._in_child(self._shop.engine, job, record)

    async def _fetch_image(self, record: JobRecord) -> Path | None:
        image = record.job.spec.image
        if image is None:
            return None
        target = self._folder / "first.png"
        try:
            await asyncio.to_thread(self._shop.results.fetch, image.key, target)
        except KeyError as exc:
            raise ImageUnreadable(image.key) from exc
        return target

    async def _prepare(self, record: JobRecord) -> tuple[str, bool]:
        """The prompt to render, and whether it is a rewrite: a recorded one, or a new one."""
        prompt, rewriter = record.job.spec.prompt, self._shop.rewriter
        by, is_rewritten = "caller", False
        if record.rendered.prompt_by != "caller":
            prompt, by, is_rewritten = record.rendered.prompt, record.rendered.prompt_by, True
        elif rewriter is not None and prompt:
            self.lease.note(Stage.PREPARE, 0.0)
            started = time.monotonic()
            prompt, by, is_rewritten = await self._unless_ended(rewriter.rewrite(prompt)), rewriter.name, True
            self._prepared_s = {Stage.PREPARE.value: round(time.monotonic() - started, 3)}
            await patiently(lambda: self._shop.store.prepared(self.claim, prompt, by))
        self._rendered = self._rendered.model_copy(update={"prompt": prompt, "prompt_by": by})
        return prompt, is_rewritten

    async def _finish(self, record: JobRecord, frames: Path, video: Path, cover: Path) -> Done:
        await self._unless_ended(self._shop.finishing.acquire())
        try:
            job = Finish(
                job_id=self.claim.job_id,
                token=self.claim.token,
                plan=record.job.plan,
                frames_path=str(frames),
                video_path=str(video),
                cover_path=str(cover),
            )
            return await self._in_child(self._shop.finisher, job, record)
        finally:
            self._shop.finishing.release()

    async def _in_child(self, child: Child, job: Render | Finish, record: JobRecord) -> Done:
        if self.lease.ended is not None:
            raise JobCancelled
        self._child = child
        predicted = stage_seconds(self._shop.catalogue.checkpoints[job.plan.checkpoint], job.plan)
        silence_s = max(MIN_SILENCE_SECONDS, self._shop.hang_factor * max(predicted.values()))
        try:
            return await child.run(job, silence_s, lambda message: self._heard(message, predicted))
        finally:
            self._child = None

    def _heard(self, message: Message, predicted: dict[Stage, float]) -> None:
        if isinstance(message, Progress):
            self.lease.note(message.stage, overall_progress(message, predicted))
        elif isinstance(message, Prepared):
            self._rendered = self._rendered.model_copy(update={"prompt": message.prompt, "prompt_by": message.by})
            self._prompt = asyncio.create_task(
                patiently(lambda: self._shop.store.prepared(self.claim, message.prompt, message.by))
            )

    async def _upload(self, video: Path, cover: Path) -> VideoFile:
        """Under the token's own path: a zombie's upload is garbage, never a result."""
        self.lease.note(Stage.UPLOAD, 0.99)
        home = f"videos/{self.claim.job_id}/{self.claim.token.replace(':', '-')}"
        stored = await asyncio.to_thread(_describe, video, cover, home)
        for attempt in range(UPLOAD_TRIES):
            if self.lease.ended is not None:
                raise JobCancelled
            try:
                await asyncio.to_thread(self._shop.results.put, stored.key, video, "video/mp4")
                await asyncio.to_thread(self._shop.results.put, stored.cover_key, cover, "image/jpeg")
                return stored
            except OSError as exc:
                logger.warning("upload failed", extra={"job_id": self.claim.job_id, "error": repr(exc)})
                await asyncio.sleep(0.5 * 2**attempt)
        raise UploadFailed

    async def _close(self, ending: Outcome | JobError) -> None:
        if isinstance(ending, Outcome):
            await self._publish(ending)
        elif self.lease.ended is LeaseEnd.LOST:
            logger.warning("attempt dropped", extra={"job_id": self.claim.job_id})
            self._shop.on_end("lost", {})
        elif self.lease.ended is LeaseEnd.DRAINED:
            await self._requeue("drained", Charge.FREE)
        elif isinstance(ending, JobCancelled) or self.lease.ended is LeaseEnd.CANCELLED:
            await self._publish(self._failure(JobCancelled(), JobState.CANCELLED))
        elif isinstance(ending, EngineDied | EngineHung):
            await self._requeue(ending.code, Charge.ENGINE_DEATH)
        elif ending.retryable:
            await self._requeue(ending.code, Charge.ATTEMPT)
        else:
            await self._publish(self._failure(ending, JobState.FAILED))

    def _failure(self, error: JobError, state: JobState) -> Outcome:
        return Outcome(state=state, rendered=self._rendered, error_code=error.code, error_message=error.message)

    async def _publish(self, outcome: Outcome) -> None:
        published = await patiently(lambda: self._shop.store.finish(self.claim, outcome))
        self._shop.on_end(outcome.state.value if published else "refused", outcome.rendered.stage_seconds)
        logger.info(
            "job ended" if published else "result refused",
            extra={"job_id": self.claim.job_id, "token": self.claim.token, "state": outcome.state.value},
        )

    async def _requeue(self, why: str, charge: Charge) -> None:
        how = await patiently(lambda: self._shop.store.requeue(self.claim, why, charge))
        self._shop.on_end(why, {})
        logger.warning("job handed back", extra={"job_id": self.claim.job_id, "why": why, "how": how.value})

    async def _unless_ended(self, doing: Coroutine[Any, Any, T]) -> T:
        """What is waited for; JobCancelled as soon as the lease ends."""
        task, ended = asyncio.create_task(doing), asyncio.create_task(self.lease.over.wait())
        try:
            await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise JobCancelled
        finally:
            task.cancel()
            ended.cancel()

    async def _stop_child(self) -> None:
        if self._child is not None:
            await self._child.cancel(*self.claim)


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Until Redis answers: finished work is never thrown away because it was away."""
    while True:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await call()
        except (RedisError, OSError) as exc:
            logger.warning("waiting for redis", extra={"error": type(exc).__name__})
            await asyncio.sleep(REDIS_PAUSE_SECONDS)


def overall_progress(message: Progress, predicted: dict[Stage, float]) -> float:
    """The share of the predicted seconds that lies behind."""
    stages = list(predicted)
    behind = sum(predicted[stage] for stage in stages[: stages.index(message.stage)])
    within = predicted[message.stage] * message.done / max(1, message.total)
    return (behind + within) / sum(predicted.values())


def _missing_stages(record: JobRecord) -> dict[str, str]:
    """What was asked for and no stage here can do."""
    asked = {"sound": record.job.spec.with_audio, "watermark": record.job.spec.watermark}
    return {stage: "unavailable" for stage, is_asked in asked.items() if is_asked}


def _describe(video: Path, cover: Path, home: str) -> VideoFile:
    return VideoFile(
        key=f"{home}/video.mp4",
        cover_key=f"{home}/cover.jpg",
        size_bytes=video.stat().st_size,
        sha256=_digest(video),
        cover_sha256=_digest(cover),
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
