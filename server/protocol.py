"""HTTP/1.1 as uvicorn reads it, with the bounds it lacks: on the head's size and time, and on bytes nobody awaits."""

import asyncio
from enum import Enum
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from server.refusal import Refusal
from server.zhipu.errors import plain_answer

MAX_HEAD_BYTES, MAX_HEADERS = 32 * 1024, 100
HEAD_SECONDS, LINGER_SECONDS = 10.0, 30.0


class HeadTooLarge(Exception):
    """The request's first lines are longer than any client's."""


class Part(Enum):
    """What a client sends next."""

    NOTHING = 0
    HEAD = 1
    BODY = 2


class BoundedHttp(HttpToolsProtocol):
    """A client has 10 s for the lines before the body, and 30 s to take note of an answer given before its end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._part, self._head_bytes = Part.NOTHING, 0
        self._refusal = Refusal("1210", detail="http")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._allow(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._part
        super().data_received(data)
        if self._part is Part.BODY or self.transport.is_closing():
            return
        # The packet that begins a head may bring the end of a body too, so it is not counted.
        self._head_bytes += len(data) if before is self._part is Part.HEAD else 0
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(Refusal("1210", detail="head_size", status=431))
        elif self._timer is None:
            self._allow(HEAD_SECONDS)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._part, self._head_bytes = Part.HEAD, 0
        self._allow(HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        if len(self.headers) > MAX_HEADERS or sum(len(n) + len(v) for n, v in self.headers) > MAX_HEAD_BYTES:
            self._refusal = Refusal("1210", detail="head_size", status=431)
            raise HeadTooLarge
        self._stop()
        self._part = Part.BODY
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._stop()
        self._part = Part.NOTHING

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._part is Part.BODY:
            self._allow(LINGER_SECONDS)

    def send_400_response(self, msg: str) -> None:
        """What could not be parsed is refused as everything else is."""
        self._refuse(self._refusal)

    def _unsupported_upgrade_warning(self) -> None:
        """Asking for another protocol is allowed, and so is not getting it."""

    def _allow(self, seconds: float) -> None:
        self._stop()
        self._timer = self.loop.call_later(seconds, self._on_time)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        self._timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            # A second request came early and waits for the first one's answer: its time has not begun.
            self._allow(HEAD_SECONDS)
        elif self._part is Part.HEAD:
            self._refuse(Refusal("1210", detail="head_slow", status=408))
        else:
            self.transport.close()

    def _refuse(self, refusal: Refusal) -> None:
        self._stop()
        if self._part is not Part.BODY and self.cycle is not None and not self.cycle.response_complete:
            # The request before this was whole: it gets its answer, and that is the last one here.
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        status, headers, body = plain_answer(refusal)
        head = [STATUS_LINE[status], *(name + b": " + value + b"\r\n" for name, value in headers)]
        self.transport.write(b"".join([*head, b"connection: close\r\n\r\n", body]))
        self.transport.close()
