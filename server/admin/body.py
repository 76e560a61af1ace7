"""An operator's request body: a small JSON object, read after the key was checked, and closed."""

import asyncio
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from server.body import parse
from server.refusal import Refusal

MAX_BYTES, LIMIT_SECONDS = 1 << 20, 60.0

Model = TypeVar("Model", bound=BaseModel)


async def read(request: Request, model: type[Model]) -> Model:
    """The body as this model; the first field that is wrong is named."""
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            raw = await _receive(request)
    except TimeoutError as exc:
        raise Refusal("1210", detail="body_slow") from exc
    try:
        return model.model_validate(parse(raw) if raw else {})
    except ValidationError as exc:
        first = exc.errors()[0]
        raise Refusal("1214", ".".join(map(str, first["loc"])), first["msg"]) from exc


async def _receive(request: Request) -> bytes:
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > MAX_BYTES:
            raise Refusal("1210", detail="body_size", status=413)
    return raw
