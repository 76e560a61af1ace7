"""Between the scratch disk and the store. What is away for a while is waited for: rendering again costs more."""

import asyncio
import errno
import hashlib
from pathlib import Path

from gpu_worker.patience import persistently
from video_jobs.errors import UploadFailed, WorkerDiskFull
from video_jobs.job import Claim, VideoFile
from video_jobs.results import ResultStore


async def fetch(results: ResultStore, key: str, target: Path, limit_s: float) -> None:
    """KeyError if there is no such object, OSError if the store stays away."""

    def copy() -> None:
        try:
            results.fetch(key, target)
        except OSError as exc:
            if exc.errno == errno.ENOSPC:
                raise WorkerDiskFull(str(exc)) from exc
            raise

    await persistently(copy, limit_s)


async def upload(results: ResultStore, claim: Claim, video: Path, cover: Path, limit_s: float) -> VideoFile:
    """Under the token's own path: a zombie's upload is garbage, never a result."""
    home = f"videos/{folder_of(claim)}"
    stored = await asyncio.to_thread(_describe, video, cover, home)
    try:
        await persistently(lambda: results.put(stored.key, video, "video/mp4"), limit_s)
        await persistently(lambda: results.put(stored.cover_key, cover, "image/jpeg"), limit_s)
    except OSError as exc:
        raise UploadFailed(repr(exc)[:300]) from exc
    return stored


def folder_of(claim: Claim) -> str:
    return f"{claim.job_id}/{claim.token.replace(':', '-')}"


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
