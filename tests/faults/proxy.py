"""A TCP proxy that can be told to fail: `proxy.py NAME=LISTEN:UPSTREAM …`, one JSON order per line on stdin.

`{"link", "do", "s"}`: `cut` closes and refuses connections, `stall` holds all bytes, `mute` loses the answers (what was
asked still happens) and then closes, `delay` makes every chunk late by `by` seconds.
"""

import asyncio
import contextlib
import json
import sys
import time
from typing import Any

CHUNK = 1 << 16


class Link:
    def __init__(self, listen: int, upstream: int) -> None:
        self.listen, self.upstream = listen, upstream
        self._mode, self._until, self._by = "", 0.0, 0.0
        self._open: set[asyncio.StreamWriter] = set()

    def order(self, order: dict[str, Any]) -> None:
        self._mode, self._until, self._by = order["do"], time.monotonic() + order["s"], order.get("by", 0.0)
        if self._mode == "cut":
            for writer in self._open:
                writer.transport.abort()

    @property
    def mode(self) -> str:
        return self._mode if time.monotonic() < self._until else ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode == "cut":
            writer.transport.abort()
            return
        self._open.add(writer)
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            self._close(writer)
            return
        self._open.add(up_writer)
        pumps = [self._pump(reader, up_writer, False), self._pump(up_reader, writer, True)]
        running = [asyncio.create_task(pump) for pump in pumps]
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in running:
            task.cancel()
        self._close(writer)
        self._close(up_writer)

    def _close(self, writer: asyncio.StreamWriter) -> None:
        # Not aborted: what has been answered must still get out.
        self._open.discard(writer)
        writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool) -> None:
        """Until either side closes; an answer that was lost closes the connection once the fault is over."""
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK):
                if await self._loses(answers):
                    return
                writer.write(chunk)
                await writer.drain()

    async def _loses(self, answers: bool) -> bool:
        is_lost = self.mode == "mute" and answers
        if self.mode == "delay":
            await asyncio.sleep(self._by)
        while self.mode == "stall" or (is_lost and self.mode == "mute"):
            await asyncio.sleep(0.02)
        return is_lost


async def main() -> None:
    links = {}
    for argument in sys.argv[1:]:
        name, _, ports = argument.partition("=")
        links[name] = Link(*map(int, ports.split(":")))
    for link in links.values():
        await asyncio.start_server(link.serve, "127.0.0.1", link.listen)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    print("ready", flush=True)
    while line := await orders.readline():
        order = json.loads(line)
        links[order["link"]].order(order)


if __name__ == "__main__":
    asyncio.run(main())
