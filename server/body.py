"""Request bodies: counted while they arrive, bounded in size and time, and parsed without surprises."""

import asyncio
import contextlib
import json
import re
import tempfile
from collections.abc import AsyncIterator
from typing import IO, Any

from fastapi import Request

from server.refusal import Refusal
from server.turns import Turns

LARGE_BODY_BYTES = 256 * 1024
# Parsing, hashing and decoding a body of 7 MiB takes five times its size.
LARGE_AT_ONCE, LARGE_OF_ONE_TENANT, TURN_SECONDS = 4, 2, 120.0
MAX_SPOOLED_BYTES = 2 * 1024**3
HALF_LETTER = re.compile(r"\\u[dD][89a-fA-F]")


class Bodies:
    """Large bodies arrive on disk and wait there for their turn: memory holds a few, whoever sends how many."""

    def __init__(self, max_bytes: int, limit_s: float) -> None:
        self._max_bytes, self._limit_s = max_bytes, limit_s
        self._turns = Turns(LARGE_OF_ONE_TENANT, LARGE_AT_ONCE)
        self._spooled = 0

    @contextlib.asynccontextmanager
    async def read_json(self, request: Request, tenant: str) -> AsyncIterator[dict[str, Any]]:
        """The body's object; a large one is held until the context ends, and others wait for that."""
        _check_kind(request)
        with tempfile.SpooledTemporaryFile(LARGE_BODY_BYTES) as spool:
            size = 0
            try:
                size = await self._receive(request, spool)
                if size <= LARGE_BODY_BYTES:
                    yield parse(_whole(spool))
                    return
                async with self._turn(tenant):
                    # A large body would hold up every other caller while it is parsed.
                    yield await asyncio.to_thread(_parse_file, spool)
            finally:
                self._spooled -= size

    @contextlib.asynccontextmanager
    async def _turn(self, tenant: str) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as held:
            try:
                await held.enter_async_context(self._turns.of(tenant, TURN_SECONDS))
            except TimeoutError as exc:
                raise Refusal("1302") from exc
            yield

    async def _receive(self, request: Request, spool: IO[bytes]) -> int:
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > self._max_bytes:
            raise Refusal("1210", detail="body_size", status=413)
        size = 0
        try:
            async with asyncio.timeout(self._limit_s):
                async for part in request.stream():
                    size += len(part)
                    self._spooled += len(part)
                    if size > self._max_bytes:
                        raise Refusal("1210", detail="body_size", status=413)
                    if self._spooled > MAX_SPOOLED_BYTES:
                        raise Refusal.unavailable()
                    spool.write(part)
        except BaseException as exc:
            self._spooled -= size
            if isinstance(exc, TimeoutError):
                raise Refusal("1210", detail="body_slow", status=400) from exc
            raise
        return size


def parse(raw: bytes) -> dict[str, Any]:
    try:
        text = raw.decode("utf-8-sig")
        # One emoji makes text of four bytes a letter: nothing else of a large body is held beside it.
        del raw
        may_hold_halves = HALF_LETTER.search(text) is not None
        body = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
        del text
        if may_hold_halves:
            _refuse_halves(body)
    except (ValueError, RecursionError) as exc:
        raise Refusal("1210", detail="json") from exc
    if not isinstance(body, dict):
        raise Refusal("1210", detail="json")
    return body


def _check_kind(request: Request) -> None:
    """JSON under any name, since clients name it carelessly; but no form, and nothing packed."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    packed = request.headers.get("content-encoding", "identity").strip().lower()
    if kind.startswith("multipart/") or packed not in ("", "identity"):
        raise Refusal("1210", detail="media_type", status=415)


def _parse_file(spool: IO[bytes]) -> dict[str, Any]:
    return parse(_whole(spool))


def _whole(spool: IO[bytes]) -> bytes:
    """All that was received; the disk is given back at once."""
    spool.seek(0)
    raw = spool.read()
    spool.close()
    return raw


def _refuse_halves(body: Any) -> None:
    """Half a letter is no text: neither Redis nor an answer could hold it."""
    left = [body]
    while left:
        value = left.pop()
        if isinstance(value, str):
            # What is ASCII, a picture above all, is not copied for this.
            if not value.isascii():
                value.encode()
        elif isinstance(value, dict):
            left.extend((*value, *value.values()))
        elif isinstance(value, list):
            left.extend(value)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise ValueError("a name stands twice")
    return read
