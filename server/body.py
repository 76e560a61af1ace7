"""Request bodies: counted while they arrive, bounded in size and time, and parsed without surprises."""

import asyncio
import json
from typing import Any

from fastapi import Request

from server.refusal import Refusal

LARGE_BODY_BYTES = 256 * 1024


async def read_json(request: Request, max_bytes: int, limit_s: float) -> dict[str, Any]:
    raw = await _receive(request, max_bytes, limit_s)
    # A large body would hold up every other caller while it is parsed.
    return await asyncio.to_thread(parse, raw) if len(raw) > LARGE_BODY_BYTES else parse(raw)


def parse(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw.decode("utf-8-sig"), parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as exc:
        raise Refusal("1210", detail="json") from exc
    if not isinstance(body, dict):
        raise Refusal("1210", detail="json")
    return body


async def _receive(request: Request, max_bytes: int, limit_s: float) -> bytes:
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > max_bytes:
        raise Refusal("1210", detail="body_size", status=413)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limit_s):
            async for part in request.stream():
                size += len(part)
                if size > max_bytes:
                    raise Refusal("1210", detail="body_size", status=413)
                parts.append(part)
    except TimeoutError as exc:
        raise Refusal("1210", detail="body_slow", status=400) from exc
    return b"".join(parts)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise ValueError("a name stands twice")
    return read
