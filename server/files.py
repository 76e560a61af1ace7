"""Results at signed links: no API key, but a signature that names one object and its end."""

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse

from server.deps import TheHouse

router = APIRouter()
TYPES = {".mp4": "video/mp4", ".jpg": "image/jpeg", ".png": "image/png"}
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "private"}


@router.api_route("/files/{key:path}", methods=["GET", "HEAD"], include_in_schema=False)
async def read_file(key: str, house: TheHouse, expires: str = "", signature: str = "") -> Response:
    """The object, whole or the range that was asked for."""
    if not (expires.isascii() and expires.isdigit() and len(expires) < 16):
        return Response("the link is not valid\n", 403, media_type="text/plain")
    if not house.signer.is_valid(key, int(expires), signature):
        return Response("the link is not valid or has expired\n", 403, media_type="text/plain")
    try:
        path = house.results.path(key)
    except KeyError:
        return Response("no such file\n", 404, media_type="text/plain")
    if not path.is_file():
        return Response("no such file\n", 404, media_type="text/plain")
    return FileResponse(path, media_type=TYPES.get(path.suffix, "application/octet-stream"), headers=HEADERS)
