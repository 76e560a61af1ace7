"""The worker's scratch disk: a folder for each process, in it one for each attempt; what the dead left is swept."""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from video_jobs.job import Claim

SHORT_PAUSE_SECONDS = 60.0


class Scratch:
    def __init__(self, root: Path, min_free_bytes: int) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._min_free_bytes = min_free_bytes
        self._folder = root / f"{os.getpid()}-{os.urandom(4).hex()}"
        # One worker at a time: a folder that is made and not yet locked would be swept by the next one.
        with _turn(root):
            for folder in root.iterdir():
                _sweep(folder)
            self._folder.mkdir()
            self._lock = _lock(self._folder)
        self._short_until = 0.0

    def trouble(self) -> str | None:
        """Why no job should be taken here, if so."""
        free = self.free_bytes()
        if free < self._min_free_bytes:
            return f"scratch disk full: {free >> 20} MB free, {self._min_free_bytes >> 20} MB wanted"
        if time.monotonic() < self._short_until:
            return f"scratch disk full: {free >> 20} MB free were not enough for a job"
        return None

    def free_bytes(self) -> int:
        return shutil.disk_usage(self._folder).free

    def fell_short(self) -> None:
        """A job found no room: for a while others take it, though its own files are gone."""
        self._short_until = time.monotonic() + SHORT_PAUSE_SECONDS

    def path(self, claim: Claim) -> Path:
        """The folder of this attempt alone."""
        return self._folder / f"{claim.job_id}-{claim.token.replace(':', '-')}"

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)


@contextlib.contextmanager
def _turn(root: Path) -> Iterator[None]:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path) -> int:
    """Hold the folder as long as this process lives; BlockingIOError if another one does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor


def _sweep(folder: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = _lock(folder)
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)
