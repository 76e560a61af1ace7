"""An operator's request body: a small JSON object, read after the key was checked, and closed."""

from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from server.body import parse
from server.refusal import Refusal

MAX_BYTES = 1 << 20

Model = TypeVar("Model", bound=BaseModel)


async def read(request: Request, model: type[Model]) -> Model:
    """The body as this model; the first field that is wrong is named."""
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > MAX_BYTES:
            raise Refusal("1210", detail="body_size", status=413)
    try:
        return model.model_validate(parse(raw) if raw else {})
    except ValidationError as exc:
        first = exc.errors()[0]
        raise Refusal("1214", ".".join(map(str, first["loc"])), first["msg"]) from exc
