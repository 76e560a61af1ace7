"""Seeded bugs of the processes: planted by name, so that the harness can show that it would notice."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

SEEDED = "FAULTS_SEEDED"


def plant() -> None:
    """Plant the bug that this process's environment names, if it names one."""
    if name := os.environ.get(SEEDED):
        BUGS[name]()


def answers_before_it_writes() -> None:
    from video_jobs.store import JobStore

    accept = JobStore.accept

    async def later(self: JobStore, job: Any) -> str:
        asyncio.get_running_loop().call_later(1.0, lambda: asyncio.ensure_future(accept(self, job)))
        return str(job.id)

    JobStore.accept = later  # type: ignore[method-assign]


def one_path_for_every_attempt() -> None:
    from gpu_worker import transfer

    transfer.folder_of = lambda claim: claim.job_id  # type: ignore[assignment]


def success_before_the_upload() -> None:
    from gpu_worker import task, transfer

    upload = task.upload

    async def later(results: Any, claim: Any, video: Path, cover: Path, limit_s: float) -> Any:
        home = f"videos/{transfer.folder_of(claim)}"
        told = transfer._describe(video, cover, home)
        uploaded = upload(results, claim, video, cover, limit_s)
        asyncio.get_running_loop().call_later(1.0, asyncio.ensure_future, uploaded)
        return told

    task.upload = later


def one_failed_beat_is_the_last() -> None:
    from redis.exceptions import RedisError

    from gpu_worker.lease import Lease
    from video_jobs.store import JobStore

    beat, keep = JobStore.beat, Lease.keep

    async def fragile(self: JobStore, claim: Any) -> Any:
        try:
            return await beat(self, claim)
        except (RedisError, OSError) as exc:
            raise RuntimeError("the beat is over") from exc

    async def kept(self: Lease) -> None:
        try:
            await keep(self)
        except RuntimeError:
            await asyncio.Event().wait()

    JobStore.beat = fragile  # type: ignore[method-assign]
    Lease.keep = kept  # type: ignore[method-assign]


def an_outage_is_a_server_error() -> None:
    from redis.exceptions import RedisError

    from server import failures
    from server.refusal import Refusal

    failures.REFUSALS = {RedisError: Refusal("500")} | {
        k: v for k, v in failures.REFUSALS.items() if k is not RedisError
    }


def a_drain_just_ends() -> None:
    from gpu_worker.worker import VideoWorker

    VideoWorker.drain = lambda *_: os._exit(0)  # type: ignore[method-assign]


BUGS: dict[str, Callable[[], None]] = {
    "the answer before the job is written": answers_before_it_writes,
    "one path for every attempt": one_path_for_every_attempt,
    "success before the upload": success_before_the_upload,
    "one failed beat is the last": one_failed_beat_is_the_last,
    "an outage is a server error": an_outage_is_a_server_error,
    "a drain just ends": a_drain_just_ends,
}
