"""Where images, videos and covers lie, and the signed links that clients fetch them by."""

import contextlib
import hashlib
import hmac
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Protocol
from urllib.parse import quote


class ResultStore(Protocol):
    """Objects by key; keys are made by us, never by a caller. Calls block: run them in a thread."""

    def put(self, key: str, source: Path, content_type: str) -> None:
        """Store a whole file; a reader never sees half of it."""

    def fetch(self, key: str, target: Path) -> None:
        """Copy an object to a local file; KeyError if there is none."""

    def delete(self, key: str) -> None:
        """Forget an object; an absent one is fine."""

    def check(self) -> None:
        """Raise OSError unless objects can be written now."""


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
        self.path(key).unlink(missing_ok=True)

    def check(self) -> None:
        probe = self.root / f".check-{secrets.token_hex(8)}"
        try:
            probe.write_bytes(b"ok")
        finally:
            probe.unlink(missing_ok=True)


class LinkSigner:
    """Makes and checks links that need no API key: absolute, expiring, each for one object."""

    def __init__(self, key: bytes, public_url: str) -> None:
        self._key = key
        self._base = public_url.rstrip("/") + "/files/"

    def link(self, key: str, expires: int) -> str:
        return f"{self._base}{quote(key)}?expires={expires}&signature={self._signature(key, expires)}"

    def is_valid(self, key: str, expires: int, signature: str) -> bool:
        expected = self._signature(key, expires)
        return hmac.compare_digest(expected.encode(), signature.encode(errors="replace")) and expires > time.time()

    def _signature(self, key: str, expires: int) -> str:
        return hmac.new(self._key, f"{expires}\n{key}".encode(), hashlib.sha256).hexdigest()


def secret_file(path: Path) -> bytes:
    """A 32-byte key kept at mode 0600; made on first use, the same for every process that races for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as writer:
            writer.write(secrets.token_bytes(32))
            writer.flush()
            os.fsync(writer.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(half, path)
    finally:
        half.unlink()
    return path.read_bytes()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
