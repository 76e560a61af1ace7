"""A moderation service for tests: it answers as it is told, late, badly or not at all."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any


class Service:
    def __init__(self) -> None:
        self.url = ""
        self.verdict: dict[str, Any] = {"allowed": True}
        self.refuses = ""
        self.trouble = ""
        self.authorization = ""
        self.asked: list[dict[str, Any]] = []
        self._calls: set[asyncio.Task[Any]] = set()

    async def settle(self) -> None:
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        call = asyncio.current_task()
        assert call is not None
        self._calls.add(call)
        try:
            await self._answer(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        fields = {name.lower(): value for name, value in fields.items()}
        self.authorization = fields.get("authorization", "")
        body = json.loads(await reader.readexactly(int(fields["content-length"])))
        self.asked.append(body)
        if self.trouble == "slow":
            await asyncio.sleep(0.8)
        refused = {"allowed": False, "level": 2, "reason": "told so"}
        said = json.dumps(refused if body["subject"] == self.refuses else self.verdict).encode()
        said = b"neither yes nor no" if self.trouble == "broken" else said
        status = "500 Oh no" if self.trouble == "failing" else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(said)}\r\nConnection: close\r\n\r\n".encode() + said)


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Service]:
    service = Service()
    async with await asyncio.start_server(service.answer, "127.0.0.1", 0) as server:
        service.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/judge"
        yield service
        await service.settle()
