"""Where images, videos and covers lie: a folder, or an S3 bucket (`s3.py`)."""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from video_jobs.settings import StoreSettings


class ResultStore(Protocol):
    """Objects by key; keys are made by us, never by a caller. Calls block: run them in a thread."""

    def put(self, key: str, source: Path, content_type: str) -> None:
        """Store a whole file; a reader never sees half of it."""

    def fetch(self, key: str, target: Path) -> None:
        """Copy an object to a local file; KeyError if there is none."""

    def delete(self, key: str) -> None:
        """Forget an object; an absent one is fine."""

    def keys(self, prefix: str) -> Iterator[tuple[str, float]]:
        """The keys below a prefix that ends with a slash, half-written ones too, each with the Unix time it was
        stored."""

    def check(self) -> None:
        """Raise OSError unless objects can be written now."""


def open_results(settings: StoreSettings) -> ResultStore:
    if settings.store == "folder":
        return FolderStore(settings.state / "results")
    from video_jobs.s3 import S3Store

    return S3Store(settings)


class FolderStore:
    """A folder on disk; the gateway serves it at signed links."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        """The file of a key; KeyError for a key that would leave the folder."""
        path = (self.root / key).resolve()
        if not path.is_relative_to(self.root.resolve()) or path == self.root.resolve():
            raise KeyError(key)
        return path

    def put(self, key: str, source: Path, content_type: str) -> None:
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        half = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        try:
            with source.open("rb") as reader, half.open("wb") as writer:
                shutil.copyfileobj(reader, writer, 1 << 20)
                writer.flush()
                os.fsync(writer.fileno())
            half.replace(target)
        finally:
            half.unlink(missing_ok=True)
        _sync_folder(target.parent)

    def fetch(self, key: str, target: Path) -> None:
        try:
            shutil.copyfile(self.path(key), target)
        except FileNotFoundError as exc:
            raise KeyError(key) from exc

    def delete(self, key: str) -> None:
        path = self.path(key)
        path.unlink(missing_ok=True)
        # A folder of a job that is gone holds nothing; one that still does stays.
        for folder in list(path.parents)[: len(Path(key).parts) - 2]:
            with contextlib.suppress(OSError):
                folder.rmdir()

    def keys(self, prefix: str) -> Iterator[tuple[str, float]]:
        # Others write and delete meanwhile: what is gone when we come to it is no object.
        for folder, _, names in os.walk(self.path(prefix), onerror=_unless_gone):
            for path in (Path(folder, name) for name in names):
                try:
                    stored_at = path.stat().st_mtime
                except OSError as exc:
                    _unless_gone(exc)
                    continue
                yield str(path.relative_to(self.root.resolve())), stored_at

    def check(self) -> None:
        probe = self.root / f".check-{secrets.token_hex(8)}"
        try:
            probe.write_bytes(b"ok")
        finally:
            probe.unlink(missing_ok=True)


def _unless_gone(error: OSError) -> None:
    """A network file system says ESTALE of a file that another machine has deleted."""
    if error.errno not in (errno.ENOENT, errno.ESTALE):
        raise error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
