"""Checkpoints on their way: from the engine's scratch file to the store, and back for the next attempt."""

import asyncio
import contextlib
import logging
from pathlib import Path

from gpu_worker.engine.protocol import Checkpointed
from gpu_worker.patience import patiently, persistently
from gpu_worker.transfer import fetch, folder_of
from video_jobs.errors import WorkerDiskFull
from video_jobs.job import Claim, JobRecord
from video_jobs.results import ResultStore
from video_jobs.store import JobStore
from video_jobs.verdicts import Hold

FETCH_SECONDS, CARRY_SECONDS, DROP_SECONDS = 60.0, 600.0, 60.0
CONTENT_TYPE = "application/octet-stream"

logger = logging.getLogger(__name__)


class Checkpoints:
    """Those of one attempt. One travels at a time; when several wait only the newest goes."""

    def __init__(self, store: JobStore, results: ResultStore, claim: Claim) -> None:
        self._store, self._results, self._claim = store, results, claim
        self._kept: str | None = None
        self._kept_step, self._is_read = 0, False
        self._next: Checkpointed | None = None
        self._carrying: asyncio.Task[None] | None = None
        self.newest: Path | None = None
        """The file to go on from, on this disk."""

    async def fetch(self, record: JobRecord, folder: Path) -> None:
        """Bring an earlier attempt's checkpoint here. One that is gone costs time, not the job."""
        self._kept = record.checkpoint
        if record.checkpoint is None:
            return
        target = folder / "earlier.safetensors"
        try:
            await fetch(self._results, record.checkpoint, target, FETCH_SECONDS)
            self.newest = target
        except KeyError:
            logger.warning("checkpoint not found", extra={"key": record.checkpoint})
        except OSError as exc:
            # Begun anew because the store is away: until this attempt is further, the earlier one is worth more.
            self._kept_step = record.checkpoint_step or 0
            logger.warning("checkpoint not fetched", extra={"dependency": "store", "error": repr(exc)[:300]})

    def carry(self, told: Checkpointed) -> None:
        before, self.newest = self.newest, Path(told.path)
        is_moving = self._carrying is not None and not self._carrying.done()
        if before is not None and not (is_moving and self._next is None):
            # It is not the one under way, and nobody will ask for it again.
            before.unlink(missing_ok=True)
        self._next = told
        if not is_moving:
            self._carrying = asyncio.create_task(self._carry_all())

    async def settle(self, limit_s: float) -> None:
        """Wait until what was told is in the store, but no longer than this."""
        if self._carrying is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await asyncio.shield(self._carrying)

    async def drop(self) -> None:
        """The job has ended and nobody goes on from here. What a store that is away keeps, the sweep will find."""
        self._next = None
        await self.settle(DROP_SECONDS)
        self.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DROP_SECONDS):
                await self._delete(self._kept)

    def stop(self) -> None:
        if self._carrying is not None:
            self._carrying.cancel()

    async def _carry_all(self) -> None:
        while self._next is not None:
            told, self._next = self._next, None
            await self._carry(told)
            self._clear(told)

    def _clear(self, told: Checkpointed) -> None:
        if self.newest != Path(told.path):
            Path(told.path).unlink(missing_ok=True)

    async def _carry(self, told: Checkpointed) -> None:
        if self._is_read and told.step <= self._kept_step:
            return
        key = f"checkpoints/{folder_of(self._claim)}/{told.step}.safetensors"
        try:
            await persistently(lambda: self._results.put(key, Path(told.path), CONTENT_TYPE), CARRY_SECONDS)
        except OSError as exc:
            logger.warning("checkpoint not stored", extra={"dependency": "store", "error": repr(exc)[:300]})
            return
        if self._kept and told.step <= self._kept_step and await self._is_back(self._kept, told):
            await self._delete(key)
            return
        if await patiently(lambda: self._store.checkpointed(self._claim, key, told.step)) is Hold.LOST:
            await self._delete(key)
            return
        before, self._kept = self._kept, key
        logger.info("checkpoint stored", extra={"job_id": self._claim.job_id, "step": told.step})
        if before != key:
            await self._delete(before)

    async def _is_back(self, further: str, told: Checkpointed) -> bool:
        """Whether the further one can be read now that the store took this one: else it would hold up all others."""
        target = Path(told.path).with_name("earlier.safetensors")
        try:
            await fetch(self._results, further, target, 0.0)
            self._is_read = True
        except WorkerDiskFull:
            logger.warning("checkpoint not read", extra={"key": further, "error": "disk full"})
        except (KeyError, OSError) as exc:
            self._kept_step = 0
            logger.warning("checkpoint given up", extra={"key": further, "error": repr(exc)[:300]})
            return False
        finally:
            target.unlink(missing_ok=True)
        return True

    async def _delete(self, key: str | None) -> None:
        if key is not None:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._results.delete, key)
