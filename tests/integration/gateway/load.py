"""What is done to a gateway to see its limits hold; each measure takes its size, so that the short form is the same."""

import asyncio
import base64
import contextlib
import io
import json
import os
import struct
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from statistics import median, quantiles
from typing import Any

from PIL import Image

from tests.gateway import Gateway

CHUNK, MAX_IMAGE = 64 * 1024, 5 * 1024**2
PATH = "/api/paas/v4/videos/generations"


async def exchange(port: int, head: str, body: bytes = b"", chunked: bool = False) -> tuple[int, bytes]:
    """One request on a connection of its own: status and body. What the server does not read is not forced on it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{head}\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(body), CHUNK):
                part = body[at : at + CHUNK]
                writer.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
                await writer.drain()
            writer.write(b"0\r\n\r\n" if chunked else b"")
        return await read_reply(reader)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def read_reply(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    size = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(size)


def head_of(key: str, size: int | None = None, method: str = "POST", path: str = PATH) -> str:
    length = "Transfer-Encoding: chunked" if size is None else f"Content-Length: {size}"
    return f"{method} {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: {key}\r\n{length}"


def body_of(size: int, **fields: Any) -> bytes:
    """A request that is exactly so large."""
    raw = json.dumps({"model": "cogvideox-2", "prompt": "a cat", **fields}, ensure_ascii=False).encode()
    return raw + b" " * (size - len(raw))


def picture_body(size: int) -> bytes:
    """A request of that size whose size comes from a whole picture of noise. One emoji makes every letter wide."""
    side = int(((min(size * 3 / 4, MAX_IMAGE) - 20_000) / 3) ** 0.5)
    out = io.BytesIO()
    Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)).save(out, "PNG", compress_level=0)
    return body_of(size, prompt="一只猫 😀", image_url=base64.b64encode(out.getvalue()).decode())


async def post_together(gateway: Gateway, count: int, body: bytes) -> Counter[int]:
    """So many copies of a request at the same moment, from two tenants: how often which status came."""
    keys = [gateway.key, gateway.other_key]
    posts = (exchange(gateway.port, head_of(keys[n % 2], len(body)), body) for n in range(count))
    return Counter(status for status, _ in await asyncio.gather(*posts))


async def latencies_ms(gateway: Gateway, count: int) -> list[float]:
    """A healthy client, one call after the other on one connection: half of them submit, half of them poll."""
    spent = []
    body = body_of(200)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    for n in range(count):
        ask = head_of(gateway.key, 0, "GET", "/api/paas/v4/async-result/1") if n % 2 else head_of(gateway.key, 200)
        started = time.perf_counter()
        writer.write(f"{ask}\r\n\r\n".encode() + (b"" if n % 2 else body))
        await read_reply(reader)
        spent.append((time.perf_counter() - started) * 1e3)
    writer.close()
    await writer.wait_closed()
    return spent


def middle_and_slow(spent: list[float]) -> tuple[float, float]:
    """The median and the 95th percentile."""
    return median(spent), quantiles(spent, n=20)[-1]


@contextlib.asynccontextmanager
async def slow_clients(gateway: Gateway, count: int, link: str) -> AsyncIterator[Counter[str]]:
    """A third sends headers, a third sends a body and a third reads a large file, all by the byte; all come again."""
    ways = {
        "head": lambda: trickle(gateway.port, b"", f"POST {PATH} HTTP/1.1\r\nHost: gateway\r\nX: {'x' * 900}".encode()),
        "body": lambda: trickle(gateway.port, f"{head_of(gateway.key, 900)}\r\n\r\n".encode(), b" " * 900),
        "read": lambda: sip(gateway.port, f"GET {link} HTTP/1.1\r\nHost: gateway\r\n\r\n".encode()),
    }
    met: Counter[str] = Counter()

    async def again(way: str) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                met[way] += 1
                await ways[way]()

    crowd = [asyncio.create_task(again(list(ways)[n % 3])) for n in range(count)]
    await asyncio.sleep(1 + count / 500)
    try:
        yield met
    finally:
        for one in crowd:
            one.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)


async def trickle(port: int, first: bytes, slowly: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(first)
        for byte in slowly:
            writer.write(bytes([byte]))
            with contextlib.suppress(TimeoutError):
                # A second goes by, or the server has had enough.
                await asyncio.wait_for(reader.read(), 1)
                return
    finally:
        writer.close()


async def sip(port: int, ask: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    try:
        writer.write(ask)
        while await reader.read(1):
            await asyncio.sleep(1)
    finally:
        writer.close()


def png(width: int, height: int, *chunks: tuple[bytes, bytes], pixels: bytes = b"") -> bytes:
    """A PNG from its chunks, for those that no library would write."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    made = (struct.pack(">I", len(raw)) + kind + raw + struct.pack(">I", zlib.crc32(kind + raw)) for kind, raw in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def bombs(unpacked: int) -> Iterator[tuple[str, bytes, int]]:
    """Name, bytes, and the status that is right, or 0 where a picture may be told from its bomb or not."""
    zeros, line = zlib.compress(bytes(unpacked), 9), zlib.compress(bytes(64 * 193))
    small = Image.new("RGB", (64, 64), "red")
    side = int((unpacked / 3) ** 0.5)
    yield "a picture all of one colour, as large as that", png(side, side, pixels=zeros), 400
    yield "two billion pixels by the header", png(2**31 - 1, 1, pixels=zeros[:1000]), 400
    yield "a strip of 178,000 x 1,000 pixels", png(178_000, 1000, pixels=zeros), 400
    yield "a small header over too many pixels", png(64, 64, pixels=zeros), 0
    yield "packed text", png(64, 64, (b"zTXt", b"x\0\0" + zeros), pixels=line), 0
    yield "a packed colour profile", png(64, 64, (b"iCCP", b"x\0\0" + zeros), pixels=line), 0
    yield "4 MB of comments", png(64, 64, (b"tEXt", b"x\0" + b"y" * 4_000_000), pixels=line), 0
    frames = [Image.new("RGB", (1000, 1000), (n, 0, 0)) for n in range(unpacked // 10_000_000)]
    yield f"{len(frames)} frames as a png", saved(frames[0], "PNG", save_all=True, append_images=frames[1:]), 200
    yield f"{len(frames)} frames as a gif", saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), 400
    yield "a jpeg that is a zip and a page", saved(small, "JPEG") + b"PK\x03\x04<script>alert(1)</script>" * 9000, 200
    yield "a gif that calls itself png", b"GIF89a" + png(64, 64)[6:], 400
    yield "a svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>" * 100, 400


async def throw_bombs(gateway: Gateway, unpacked: int) -> list[tuple[str, int, int, float]]:
    """Name, size, status, and by how many megabytes the gateway's memory was higher at its highest than before."""
    seen = []
    for name, raw, expected in bombs(unpacked):
        body = json.dumps({"model": "cogvideox-2", "image_url": base64.b64encode(raw).decode()}).encode()
        before = gateway.forget_peak()
        status, _ = await exchange(gateway.port, head_of(gateway.key, len(body)), body)
        assert status in ([expected] if expected else [200, 400]), (name, status)
        seen.append((name, len(raw), status, gateway.memory_mb("VmHWM") - before))
    return seen
