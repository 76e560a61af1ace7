"""Image intake: whatever form the caller sends, a clean PNG in the store, named by its content."""

import asyncio
import base64
import binascii
import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from server.decode import TOO_LARGE
from server.fetch import AddressRefused, FetchFailed, ImageFetcher, ImageTooLarge, TooBusy
from server.refusal import Refusal
from server.settings import GatewaySettings
from server.turns import Turns
from video_jobs.job import ImageRef
from video_jobs.results import ResultStore

# A decoder ends itself by the CPU time it took: only on a machine that starves it does it run for longer.
DECODE_SECONDS, MAX_DECODERS, MAX_IMAGES = 20.0, 4, 32
BUSY_SECONDS = 5.0
# The place reserved for the job lasts for 60 s.
INTAKE_SECONDS = 50.0


class ImageIntake:
    def __init__(self, store: ResultStore, settings: GatewaySettings) -> None:
        self._store = store
        self._max_bytes = settings.max_image_bytes
        self._fetcher = ImageFetcher(settings.max_image_bytes, settings.image_fetch_seconds, settings.image_allow)
        self._formats = ["PNG", "JPEG", *(["WEBP"] if settings.image_webp else [])]
        self._room = asyncio.Semaphore(MAX_DECODERS)
        self._turns = Turns(settings.max_tenant_images, MAX_IMAGES)

    async def take(self, image_url: Any, tenant: str) -> ImageRef:
        """Fetch or decode, clean and store; Refusal if the caller's image cannot be used."""
        try:
            async with asyncio.timeout(INTAKE_SECONDS), self._turns.of(tenant, INTAKE_SECONDS):
                return await self._take(one_image(image_url))
        except TimeoutError as exc:
            raise Refusal("1302") from exc

    async def _take(self, text: str) -> ImageRef:
        try:
            raw = await self._bytes(text)
        except ImageTooLarge as exc:
            raise Refusal("1214", "image_url", "image_size") from exc
        except (AddressRefused, FetchFailed) as exc:
            raise Refusal("1214", "image_url", "image_fetch") from exc
        except TooBusy as exc:
            raise Refusal("1305", wait_s=BUSY_SECONDS) from exc
        # A clean picture may be far larger than the one sent: it goes by file, never through the gateway's memory.
        with tempfile.NamedTemporaryFile(suffix=".png") as cleaned:
            await self._clean(raw, cleaned)
            return await asyncio.to_thread(keep, self._store, Path(cleaned.name))

    async def close(self) -> None:
        await self._fetcher.close()

    async def _bytes(self, text: str) -> bytes:
        if text[:7].lower() == "http://" or text[:8].lower() == "https://":
            return await self._fetcher.fetch(text)
        return await asyncio.to_thread(decode_base64, text, self._max_bytes)

    async def _clean(self, raw: bytes, cleaned: IO[bytes]) -> None:
        async with self._room:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "server.decode", *self._formats),
                env=_bare_environment(),
                stdin=asyncio.subprocess.PIPE,
                stdout=cleaned,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                async with asyncio.timeout(DECODE_SECONDS):
                    await child.communicate(raw)
            except TimeoutError as exc:
                raise Refusal("1305", wait_s=BUSY_SECONDS) from exc
            finally:
                if child.returncode is None:
                    child.kill()
                    await child.wait()
        if child.returncode:
            raise Refusal("1214", "image_url", "image_size" if child.returncode == TOO_LARGE else "image_format")


def _bare_environment() -> dict[str, str]:
    """What a child needs to find its modules; the gateway's addresses and secrets are none of its business."""
    return {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LANG", "LC_ALL")}


def one_image(image_url: Any) -> str:
    """The image's text out of a string, a one-element list or an object with `url`."""
    if isinstance(image_url, list) and len(image_url) > 1:
        raise Refusal("1214", "image_url", "last_frame")
    if isinstance(image_url, list) and image_url:
        image_url = image_url[0]
    if isinstance(image_url, dict):
        image_url = image_url.get("url")
    if not isinstance(image_url, str) or not image_url:
        raise Refusal("1214", "image_url")
    return image_url


def decode_base64(text: str, max_bytes: int) -> bytes:
    """A data URI, with or without a space after its comma, or raw base64."""
    if text[:5].lower() == "data:":
        text = text.partition(",")[2]
    text = "".join(text.split())
    if len(text) * 3 // 4 > max_bytes + 2:
        raise Refusal("1214", "image_url", "image_size")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise Refusal("1214", "image_url", "image_format") from exc
    if len(raw) > max_bytes:
        raise Refusal("1214", "image_url", "image_size")
    return raw


def keep(store: ResultStore, picture: Path) -> ImageRef:
    """Store a clean picture under its content's name."""
    with picture.open("rb") as file:
        header = file.read(24)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    key = f"images/{digest}.png"
    store.put(key, picture, "image/png")
    return ImageRef(key=key, sha256=digest, width=int.from_bytes(header[16:20]), height=int.from_bytes(header[20:24]))
