"""Results at signed links: no API key, but a signature that names one object and its end."""

import asyncio
import time
from pathlib import PurePath

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse, RedirectResponse, StreamingResponse

from server.deps import House, TheHouse
from video_jobs.results import FolderStore

router = APIRouter()
TYPES = {".mp4": "video/mp4", ".jpg": "image/jpeg", ".png": "image/png"}
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "private"}
REDIRECT_SECONDS = 300


@router.api_route("/files/{key:path}", methods=["GET", "HEAD"])
async def read_file(key: str, request: Request, house: TheHouse, expires: str = "", signature: str = "") -> Response:
    """The object, whole or the range that was asked for."""
    if not (expires.isascii() and expires.isdigit() and len(expires) < 16):
        return PlainTextResponse("the link is not valid\n", 403)
    if not house.signer.is_valid(key, int(expires), signature):
        return PlainTextResponse("the link is not valid or has expired\n", 403)
    try:
        if isinstance(house.results, FolderStore):
            return _from_folder(house.results, key)
        return await _from_bucket(house, key, request)
    except KeyError:
        return PlainTextResponse("no such file\n", 404)
    except OSError:
        return PlainTextResponse("the store does not answer\n", 503, headers={"Retry-After": "5"})


def _from_folder(results: FolderStore, key: str) -> Response:
    path = results.path(key)
    if not path.is_file():
        raise KeyError(key)
    return FileResponse(path, media_type=_type(key), headers=HEADERS)


async def _from_bucket(house: House, key: str, request: Request) -> Response:
    from video_jobs.s3 import S3Store

    bucket = house.results
    assert isinstance(bucket, S3Store)  # noqa: S101  # the only store besides the folder
    if house.settings.link_delivery == "redirect":
        return RedirectResponse(bucket.link(key, int(time.time()) + REDIRECT_SECONDS), 302, headers=HEADERS)
    stored = await asyncio.to_thread(bucket.open, key, request.headers.get("range"))
    headers = HEADERS | stored.headers
    if request.method == "HEAD":
        return Response(status_code=stored.status, headers=headers, media_type=_type(key))
    return StreamingResponse(stored.chunks, stored.status, headers, _type(key))


def _type(key: str) -> str:
    return TYPES.get(PurePath(key).suffix, "application/octet-stream")
