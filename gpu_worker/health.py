"""A small listener for the worker's orchestrator: alive, ready, measured."""

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus

from prometheus_client import Gauge, generate_latest

from gpu_worker.worker import VideoWorker

READ_LIMIT_SECONDS = 5.0

logger = logging.getLogger(__name__)


class WorkerHealth:
    """Ready means: the engine is loaded and new jobs are taken. Alive never means that the device is idle."""

    def __init__(self, worker: VideoWorker) -> None:
        self._worker = worker
        self._registry = worker.metrics.registry

        def gauge(name: str, what: str, read: Callable[[], float]) -> None:
            Gauge(f"cogvideox_worker_{name}", what, registry=self._registry).set_function(read)

        gauge("jobs", "Jobs in this worker's hands.", lambda: len(worker.runs))
        gauge("ready", "1 while this worker takes jobs.", lambda: float(self.is_ready))
        gauge("device_busy", "1 while a job holds the device.", lambda: float(worker.is_rendering))
        gauge("model_load_seconds", "From the engine's start until it was ready.", lambda: worker.engine_start_s)
        gauge("scratch_free_bytes", "Room on the scratch disk.", worker.scratch_free)

    @property
    def is_ready(self) -> bool:
        return self._worker.trouble() is None

    async def serve(self, port: int) -> None:
        server = await asyncio.start_server(self._answer, "0.0.0.0", port)  # noqa: S104  # probed from outside the pod
        async with server:
            await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(READ_LIMIT_SECONDS):
                request = (await reader.readline()).decode("latin-1").split(" ")
                status, body = self._page(request[1] if len(request) > 1 else "")
                head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n"
                writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
                await writer.drain()
        except (TimeoutError, OSError, ValueError):
            logger.debug("a probe went away")
        finally:
            writer.close()

    def _page(self, path: str) -> tuple[HTTPStatus, bytes]:
        if path == "/healthz":
            return HTTPStatus.OK, b"alive\n"
        if path == "/readyz":
            trouble = self._worker.trouble()
            if trouble is None:
                return HTTPStatus.OK, b"ready\n"
            return HTTPStatus.SERVICE_UNAVAILABLE, f"not ready: {trouble}\n".encode()
        if path == "/metrics":
            return HTTPStatus.OK, generate_latest(self._registry)
        return HTTPStatus.NOT_FOUND, b"not found\n"
