"""One job from claim to result: prepare, render, finish, upload, publish."""

import asyncio
import errno
import logging
import shutil
import time
from collections.abc import Callable, Collection
from pathlib import Path

from gpu_worker.checkpoints import Checkpoints
from gpu_worker.ending import Ending
from gpu_worker.engine.process import Child
from gpu_worker.engine.protocol import Checkpointed, Done, Finish, Message, Prepared, Progress, Render
from gpu_worker.lease import Lease, LeaseEnd
from gpu_worker.pace import Watch
from gpu_worker.patience import patiently
from gpu_worker.transfer import fetch, upload
from gpu_worker.workshop import Workshop
from video_jobs.errors import (
    ChildNotStarted,
    ContentRefused,
    EngineDied,
    ImageUnreadable,
    InternalFault,
    JobCancelled,
    JobError,
    WorkerDiskFull,
)
from video_jobs.job import Claim, JobRecord, JobState, Outcome, Rendered, Stage
from video_jobs.logs import about, also_about
from video_jobs.verdicts import Charge

IMAGE_SECONDS = 600.0
MIN_CANCEL_GRACE_SECONDS, CANCEL_GRACE_STEPS = 10.0, 3.0
LAST_STAGES_GRACE_SECONDS, HAND_BACK_SECONDS = 4.0, 3.0
SETTLE_SECONDS, ALONE_SECONDS = 10.0, 600.0
# A job's own run limit ends its upload; this one that of a job without.
UPLOAD_SECONDS = 6 * 3600.0

logger = logging.getLogger(__name__)


class JobRun:
    """One attempt at one job. `free_device` is called as soon as the next job may be claimed; `others` still end here.

    That is when denoising is over: the next job's picture and prompt are made ready while this one is decoded.
    """

    def __init__(
        self,
        shop: Workshop,
        claim: Claim,
        free_device: Callable[[], None],
        others: Collection["asyncio.Task[None]"] = (),
    ) -> None:
        self._shop = shop
        self._free_device = free_device
        self._others = others
        self._child: Child | None = None
        self._watch: Watch | None = None
        self._checkpoints = Checkpoints(shop.store, shop.results, claim)
        self._folder = shop.scratch.path(claim)
        self._ending = Ending(shop, claim)
        self._is_rendered = self._is_suspect = False
        self._drained_by = 0.0
        self._rendered = Rendered()
        self._prepared_s: dict[str, float] = {}
        self._checked_prompt = ""
        self._prompt: asyncio.Task[object] | None = None
        self.claim = claim
        self.lease = Lease(shop.store, claim, self._stop_child)

    async def run(self) -> None:
        """Make the video and publish how it went. Only the token decides whether that counts."""
        about(job_id=self.claim.job_id)
        beating = asyncio.create_task(self.lease.keep())
        has_ended = False
        try:
            has_ended = await self._close(await self._outcome())
        finally:
            self._free_device()
            beating.cancel()
            if has_ended:
                await self._checkpoints.drop()
            self._checkpoints.stop()
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def drain(self, limit_s: float) -> None:
        """Hand the job back within the limit; one that is as good as made has a moment to end here."""
        loop = asyncio.get_running_loop()
        self._drained_by = loop.time() + limit_s
        moment_s = min(limit_s, LAST_STAGES_GRACE_SECONDS) if self._is_rendered else 0.0
        loop.call_later(moment_s, self.lease.end, LeaseEnd.DRAINED)

    async def _outcome(self) -> Outcome | JobError:
        try:
            record = await patiently(lambda: self._shop.store.get(self.claim.job_id))
            if record is None:
                return InternalFault("the record is gone")
            also_about(request_id=record.job.request_id)
            self._ending.claimed(record)
            return await self._make(record)
        except JobError as error:
            return error
        except OSError as error:
            return WorkerDiskFull(str(error)) if error.errno == errno.ENOSPC else InternalFault(repr(error)[:300])
        except Exception as error:
            logger.exception("attempt failed")
            return InternalFault(repr(error)[:300])

    async def _make(self, record: JobRecord) -> Outcome:
        self._folder.mkdir(parents=True, exist_ok=True)
        # However this attempt ends, the rewrite of an earlier one stays in the record.
        self._rendered = record.rendered
        # What took a whole worker down may do so again, and must take no neighbour with it: it runs alone.
        self._is_suspect = record.lost_leases > 0
        if self._is_suspect and self._others:
            await self.lease.unless_ended(asyncio.wait(self._others, timeout=ALONE_SECONDS))
        frames = self._folder / "frames.npy"
        done = await self._render(record, frames)
        self._shop.metrics.rendered(record.job.plan.steps, done.stage_seconds, done.peak_memory_bytes)
        await self._check_prompt(record)
        self._is_rendered = True
        if not self._is_suspect:
            self._free_device()
        video, cover = self._folder / "video.mp4", self._folder / "cover.jpg"
        finished = await self._finish(record, frames, video, cover)
        self._free_device()
        verdict = await self.lease.unless_ended(self._shop.content.video(record.job, self._folder))
        started = time.monotonic()
        self.lease.note(Stage.UPLOAD, 0.99)
        # Not dropped with the lease: until another worker has the job, this clip is still its result.
        limit_s = record.job.run_limit_s or UPLOAD_SECONDS
        uploading = upload(self._shop.results, self.claim, video, cover, limit_s)
        stored = await self.lease.unless_ended(uploading, LeaseEnd.LOST)
        seconds = self._prepared_s | done.stage_seconds | finished.stage_seconds
        seconds[Stage.UPLOAD.value] = round(time.monotonic() - started, 3)
        stages = done.stages | finished.stages | _missing_stages(record) | verdict
        rendered = self._rendered.model_copy(update={"stage_seconds": seconds, "stages": stages})
        return Outcome(state=JobState.SUCCEEDED, rendered=rendered, video=stored)

    async def _render(self, record: JobRecord, frames: Path) -> Done:
        image = await self._fetch_image(record)
        await self.lease.unless_ended(self._checkpoints.fetch(record, self._folder))
        # Shielded: a cancelled job must not cost the next one a start.
        ready = await self.lease.unless_ended(asyncio.shield(self._shop.engine.start()))
        versions = {name: value for name, value in ready.versions.items() if name in Rendered.model_fields}
        digest = record.job.plan.digest()
        self._rendered = self._rendered.model_copy(update={"preset_digest": digest, **versions})
        await self._prepare(record)
        newest = self._checkpoints.newest
        job = Render(
            job_id=self.claim.job_id,
            token=self.claim.token,
            prompt=self._rendered.prompt,
            is_rewritten=self._rendered.prompt_by != "caller",
            image_path=str(image) if image else None,
            plan=record.job.plan,
            seed=record.job.spec.seed,
            frames_path=str(frames),
            checkpoint_path=str(newest) if newest else None,
            checkpoint_folder=str(self._folder),
            checkpoint_every_s=self._shop.checkpoint_every_s,
        )
        await self.lease.unless_ended(self._shop.rendering.acquire())
        try:
            # The job before may have ended the engine. A start can take minutes, which a drain does not have.
            await self.lease.unless_ended(asyncio.shield(self._shop.engine.start()))
            self._shop.adapter = job.plan.adapter
            return await self._in_child(self._shop.engine, job)
        finally:
            self._shop.rendering.release()

    async def _fetch_image(self, record: JobRecord) -> Path | None:
        image = record.job.spec.image
        if image is None:
            return None
        target = self._folder / "first.png"
        try:
            await self.lease.unless_ended(fetch(self._shop.results, image.key, target, IMAGE_SECONDS))
        except KeyError as exc:
            raise ImageUnreadable(image.key) from exc
        return target

    async def _prepare(self, record: JobRecord) -> None:
        """Settle the prompt to render: a recorded rewrite, a new one, or the caller's own words."""
        prompt, by, rewriter = record.job.spec.prompt, "caller", self._shop.rewriter
        if record.rendered.prompt_by != "caller":
            prompt, by = record.rendered.prompt, record.rendered.prompt_by
        elif rewriter is not None and prompt:
            self.lease.note(Stage.PREPARE, 0.0)
            started = time.monotonic()
            prompt, by = await self.lease.unless_ended(rewriter.rewrite(prompt)), rewriter.name
            self._prepared_s = {Stage.PREPARE.value: round(time.monotonic() - started, 3)}
            await patiently(lambda: self._shop.store.prepared(self.claim, prompt, by))
        self._rendered = self._rendered.model_copy(update={"prompt": prompt, "prompt_by": by})
        await self._check_prompt(record)

    async def _check_prompt(self, record: JobRecord) -> None:
        """A rewrite is checked once: before it is rendered, or after it when the engine itself wrote it."""
        if self._rendered.prompt_by != "caller" and self._rendered.prompt != self._checked_prompt:
            await self.lease.unless_ended(self._shop.content.prompt(record.job, self._rendered.prompt))
            self._checked_prompt = self._rendered.prompt

    async def _finish(self, record: JobRecord, frames: Path, video: Path, cover: Path) -> Done:
        await self.lease.unless_ended(self._shop.finishing.acquire())
        try:
            job = Finish(
                job_id=self.claim.job_id,
                token=self.claim.token,
                plan=record.job.plan,
                frames_path=str(frames),
                video_path=str(video),
                cover_path=str(cover),
                samples=self._shop.content.samples(record.job),
            )
            return await self._in_child(self._shop.finisher, job)
        finally:
            self._shop.finishing.release()

    async def _in_child(self, child: Child, job: Render | Finish) -> Done:
        if self.lease.ended is not None:
            raise JobCancelled
        self._child, self._watch = child, self._shop.pace.watch(job.plan)
        try:
            return await child.run(job, self._watch.silence_s, self._heard)
        finally:
            self._child = None

    def _heard(self, message: Message) -> None:
        if isinstance(message, Progress) and self._watch is not None:
            if message.stage is Stage.DECODE and not self._is_suspect:
                self._free_device()
            self.lease.note(message.stage, self._watch.note(message))
        elif isinstance(message, Checkpointed):
            self._checkpoints.carry(message)
        elif isinstance(message, Prepared):
            self._rendered = self._rendered.model_copy(update={"prompt": message.prompt, "prompt_by": message.by})
            self._prompt = asyncio.create_task(
                patiently(lambda: self._shop.store.prepared(self.claim, message.prompt, message.by))
            )

    async def _close(self, ending: Outcome | JobError) -> bool:
        """Tell the store how the attempt ended; whether the job has ended with it."""
        if isinstance(ending, Outcome):
            return await self._ending.publish(ending)
        if self.lease.ended is LeaseEnd.LOST:
            self._ending.lost()
            return False
        if self.lease.ended is LeaseEnd.DRAINED:
            await self._checkpoints.settle(self._drained_by + HAND_BACK_SECONDS - asyncio.get_running_loop().time())
            return await self._ending.requeue("drained", Charge.FREE)
        if isinstance(ending, JobCancelled) or self.lease.ended is LeaseEnd.CANCELLED:
            return await self._ending.publish(self._failure(JobCancelled(), JobState.CANCELLED))
        if isinstance(ending, WorkerDiskFull):
            self._shop.scratch.fell_short()
        if ending.retryable:
            await self._checkpoints.settle(SETTLE_SECONDS)
            return await self._ending.requeue(ending.code, _charge(ending), self._why(ending))
        return await self._ending.publish(self._failure(ending, JobState.FAILED))

    def _why(self, error: JobError) -> str:
        return f"{error.detail}, at {self._watch.where()}" if self._watch else error.detail

    def _failure(self, error: JobError, state: JobState) -> Outcome:
        if isinstance(error, ContentRefused):
            told = {"moderation": f"{error.subject} refused", "moderation_level": str(error.level)}
            stages = self._rendered.stages | told | {"moderation_reason": error.reason}
            self._rendered = self._rendered.model_copy(update={"stages": stages})
        return Outcome(state=state, rendered=self._rendered, error_code=error.code, error_message=error.message)

    async def _stop_child(self) -> None:
        if self._child is None or self._watch is None:
            return
        step_s = self._watch.step_s()
        if self.lease.ended is LeaseEnd.DRAINED:
            left_s = self._drained_by - asyncio.get_running_loop().time()
            # A step that would not end in time is not waited for: the last checkpoint is handed back.
            await self._child.cancel(*self.claim, left_s if step_s < left_s else 0.0, keep_checkpoint=True)
            return
        await self._child.cancel(*self.claim, max(MIN_CANCEL_GRACE_SECONDS, CANCEL_GRACE_STEPS * step_s))


def _charge(error: JobError) -> Charge:
    """Only the job that was rendering pays for an engine's death; nobody pays for one that did not start."""
    if isinstance(error, EngineDied):
        return Charge.ENGINE_DEATH
    return Charge.FREE if isinstance(error, ChildNotStarted) else Charge.ATTEMPT


def _missing_stages(record: JobRecord) -> dict[str, str]:
    """What was asked for and no stage here can do."""
    asked = {"sound": record.job.spec.with_audio, "watermark": record.job.spec.watermark}
    return {stage: "unavailable" for stage, is_asked in asked.items() if is_asked}
