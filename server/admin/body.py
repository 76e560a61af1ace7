"""An operator's request body: a small JSON object, read after the key was checked, and closed."""

import asyncio
import json
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from server.body import parse
from server.refusal import Refusal
from video_jobs.logs import redact

MAX_BYTES, LIMIT_SECONDS, MAX_TOLD = 1 << 20, 60.0, 8000

Model = TypeVar("Model", bound=BaseModel)


async def receive(request: Request) -> bytes:
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            return await _receive(request)
    except TimeoutError as exc:
        raise Refusal("1210", detail="body_slow") from exc


async def read(request: Request, model: type[Model]) -> Model:
    """The body, which was received when the call was put on record, as this model; a wrong field is named."""
    raw: bytes = request.state.raw
    try:
        return model.model_validate(parse(raw) if raw else {})
    except ValidationError as exc:
        first = exc.errors()[0]
        raise Refusal("1214", ".".join(map(str, first["loc"])), first["msg"]) from exc


def told(raw: bytes) -> str:
    """What the audit keeps of a body: without the secret of a key that is brought along."""
    text = raw.decode(errors="replace")
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    if isinstance(said, dict):
        said |= {"key": str(said["key"]).partition(".")[0]} if "key" in said else {}
        text = json.dumps(said, ensure_ascii=False)
    return redact(text)[:MAX_TOLD]


async def _receive(request: Request) -> bytes:
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > MAX_BYTES:
            raise Refusal("1210", detail="body_size", status=413)
    return raw
