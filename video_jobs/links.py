"""The links that clients fetch results by: absolute, expiring, without an API key."""

import contextlib
import hashlib
import hmac
import os
import secrets
import time
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from video_jobs.results import ResultStore
from video_jobs.settings import StoreSettings

KEY_BYTES = 32


class Links(Protocol):
    def link(self, key: str, expires: int) -> str:
        """Where the object of this key can be read until `expires` (Unix seconds)."""


class LinkSigner:
    """Links that the gateway answers: signed, each for one object."""

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


class PublicLinks:
    """Links into a store that anyone may read, a CDN for instance. They expire with the object."""

    def __init__(self, base: str, prefix: str) -> None:
        self._base = base.rstrip("/") + "/" + quote(prefix)

    def link(self, key: str, expires: int) -> str:
        return self._base + quote(key)


def open_links(settings: StoreSettings, results: ResultStore, signer: LinkSigner) -> Links:
    """By setting; `auto` lets the bucket answer unless its credentials end before the link would."""
    if settings.links == "public":
        return PublicLinks(settings.link_base, settings.s3_prefix)
    if settings.store == "folder" or settings.links == "gateway":
        return signer
    from video_jobs.s3 import S3Store

    assert isinstance(results, S3Store)  # noqa: S101  # the only store besides the folder
    return results if settings.links == "presigned" or results.has_lasting_credentials else signer


class BadSecretFile(Exception):
    """A secret's file holds fewer than 32 bytes."""


def secret_file(path: Path) -> bytes:
    """A 32-byte key: the file's own, or derived from a longer text; made at mode 0600 where there is none."""
    if not path.is_file():
        _make_secret(path)
    held = path.read_bytes()
    if len(held) == KEY_BYTES:
        return held
    if len(held.strip()) < KEY_BYTES:
        raise BadSecretFile(f"{path}: {BadSecretFile.__doc__}")
    return hashlib.sha256(held.strip()).digest()


def _make_secret(path: Path) -> None:
    """The same for every process that races for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as writer:
            writer.write(secrets.token_bytes(KEY_BYTES))
            writer.flush()
            os.fsync(writer.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(half, path)
    finally:
        half.unlink()
