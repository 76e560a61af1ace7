"""`python -P -m server.preview`: the sandboxed child that makes a small JPEG of one of our own pictures.

A moderation service needs no more, and no gateway unpacks a picture of 36 megapixels in its own memory.
"""

import asyncio
import io
import sys
from pathlib import Path

from video_jobs.job import ImageRef
from video_jobs.results import ResultStore

SIDE, QUALITY, SECONDS = 768, 85, 10.0


class PreviewFailed(OSError):
    """A stored picture could not be made small."""


async def preview(results: ResultStore, image: ImageRef, held: Path) -> bytes:
    await asyncio.to_thread(results.fetch, image.key, held)
    with held.open("rb") as picture:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "server.preview"),
            stdin=picture,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(SECONDS):
                made, _ = await child.communicate()
        except TimeoutError as exc:
            raise PreviewFailed(image.key) from exc
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
    if child.returncode or not made:
        raise PreviewFailed(image.key)
    return made


def main() -> None:
    from PIL import Image, PngImagePlugin

    from server.decode import confine

    Image.preinit()
    assert PngImagePlugin  # noqa: S101  # imported before files are out of reach
    confine()
    out = io.BytesIO()
    with Image.open(io.BytesIO(sys.stdin.buffer.read()), formats=["PNG"]) as picture:
        small = picture.convert("RGB")
        small.thumbnail((SIDE, SIDE))
        small.save(out, "JPEG", quality=QUALITY)
    sys.stdout.buffer.write(out.getvalue())


if __name__ == "__main__":
    main()
