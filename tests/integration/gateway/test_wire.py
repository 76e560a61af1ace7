"""HTTP itself: what cannot be parsed, comes too slowly or never ends is refused in the contract's shape."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import uvicorn

from server import protocol
from server.app import create_app
from server.protocol import BoundedHttp
from server.settings import GatewaySettings

HOST = "Host: gateway\r\n"


@pytest.fixture
async def port(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """The gateway with the clock of its wire turned fast."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(protocol, "LINGER_SECONDS", 0.5)
    app = create_app(GatewaySettings(redis_url=redis_url, state=tmp_path))
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=BoundedHttp, ws="none", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    yield listener.getsockname()[1]
    server.should_exit = True
    await serving


async def said(port: int, *parts: bytes, pause_s: float = 0) -> bytes:
    """All that the server says until it closes the connection; 3 s at most after the last part."""
    loop = asyncio.get_running_loop()
    heard = bytearray()
    with socket.socket() as line:
        line.setblocking(False)
        await loop.sock_connect(line, ("127.0.0.1", port))
        with contextlib.suppress(ConnectionError):
            for part in parts:
                await loop.sock_sendall(line, part)
                await asyncio.sleep(pause_s)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(3):
                while more := await loop.sock_recv(line, 65536):
                    heard += more
    return bytes(heard)


def read(raw: bytes) -> tuple[int, str]:
    """Status and code of the last answer."""
    head, _, body = raw[raw.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    assert b"x-should-retry" in head
    return int(head.split()[1]), json.loads(body)["error"]["code"]


@pytest.mark.parametrize(
    "request_line",
    [
        *(
            b"garbage\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
        ),
        *(b"GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"),
        *(b"GET / HTTP/1.1\nHost: a\n\n", b"G\xc3\x89T / HTTP/1.1\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n"),
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_refused_in_the_contracts_shape(port: int, request_line: bytes) -> None:
    assert read(await said(port, request_line)) == (400, "1210")


@pytest.mark.parametrize(
    "headers",
    [f"X: {'x' * 40_000}\r\n", "".join(f"X-{n}: x\r\n" for n in range(200)), f"Cookie: {'x' * 33_000}\r\n" * 3],
    ids=["long", "many", "both"],
)
async def test_head_has_a_size(port: int, headers: str) -> None:
    whole = f"GET /healthz HTTP/1.1\r\n{HOST}{headers}\r\n".encode()

    assert read(await said(port, whole)) == (431, "1210")


async def test_head_without_an_end_is_cut_off(port: int) -> None:
    assert read(await said(port, b"GET / HTTP/1.1\r\nX: ", *[b"x" * 8000] * 8, pause_s=0.01)) == (431, "1210")


async def test_slow_head_is_told_so_and_a_silent_connection_closed(port: int) -> None:
    assert read(await said(port, b"GET / HT", b"TP/1.1\r\n", b"Host: a", pause_s=0.3)) == (408, "1210")
    assert await said(port) == b""
    assert await said(port, b"\r\n", b"\r\n", pause_s=0.1) == b""


async def test_head_in_many_packets_is_read(port: int) -> None:
    parts = [f"GET /healthz HTTP/1.1\r\n{HOST}".encode(), b"Connection: close\r\n", b"\r\n"]

    assert b'{"status":"alive"}' in await said(port, *parts, pause_s=0.1)


async def test_endless_body_after_the_answer_is_cut_off(port: int) -> None:
    head = f"POST /api/paas/v4/videos/generations HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n".encode()

    assert read(await said(port, head, *[b"1\r\nx\r\n"] * 3, pause_s=0.3)) == (401, "1001")


async def test_connection_serves_one_request_after_the_other(port: int) -> None:
    one = f"GET /healthz HTTP/1.1\r\n{HOST}\r\n".encode()
    last = f"GET /healthz HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n".encode()

    assert (await said(port, one, one, last, pause_s=0.05)).count(b"HTTP/1.1 200") == 3
    assert (await said(port, one + one + last)).count(b"HTTP/1.1 200") == 3, "and when all come at once"


async def test_whole_request_is_answered_though_nonsense_follows(port: int) -> None:
    raw = await said(port, f"GET /healthz HTTP/1.1\r\n{HOST}\r\nnonsense\r\n\r\n".encode())

    assert raw.count(b"HTTP/1.1 ") == 1
    assert raw.startswith(b"HTTP/1.1 200")


async def test_asking_for_another_protocol_is_answered_in_this_one(port: int) -> None:
    ask = f"GET /healthz HTTP/1.1\r\n{HOST}Connection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n".encode()

    assert (await said(port, ask)).startswith(b"HTTP/1.1 200")


async def test_head_of_a_get_has_its_headers_and_no_body(port: int) -> None:
    raw = await said(port, f"HEAD /healthz HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n".encode())

    assert b"content-length: 18" in raw.lower()
    assert raw.endswith(b"\r\n\r\n")
