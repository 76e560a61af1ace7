"""The worker's listener."""

import asyncio
import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace

import httpx2
import pytest

from gpu_worker.health import WorkerHealth
from gpu_worker.metrics import WorkerMetrics


@pytest.fixture
def worker() -> SimpleNamespace:
    """What the listener asks of a worker."""
    metrics = WorkerMetrics()
    metrics.ended("succeeded", {"denoise": 2.0})
    return SimpleNamespace(
        runs={}, trouble=lambda: None, metrics=metrics, engine_start_s=3.5, is_rendering=True, scratch_free=lambda: 1e9
    )


@pytest.fixture
async def client(worker: SimpleNamespace) -> AsyncIterator[httpx2.AsyncClient]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    health = WorkerHealth(worker)  # type: ignore[arg-type]
    listener = asyncio.create_task(health.serve(port))
    await asyncio.sleep(0.1)
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        yield client
    listener.cancel()
    await asyncio.gather(listener, return_exceptions=True)


async def test_worker_that_cannot_take_jobs_is_alive_but_not_ready_and_says_why(
    worker: SimpleNamespace, client: httpx2.AsyncClient
) -> None:
    assert (await client.get("/readyz")).status_code == 200

    worker.trouble = lambda: "scratch disk full"
    refused = await client.get("/readyz")

    assert (refused.status_code, refused.text) == (503, "not ready: scratch disk full\n")
    assert (await client.get("/healthz")).status_code == 200


async def test_metrics_count_attempts_and_stage_seconds(client: httpx2.AsyncClient) -> None:
    text = (await client.get("/metrics")).text

    assert 'cogvideox_worker_attempts_total{how="succeeded"} 1.0' in text
    assert 'cogvideox_worker_stage_seconds_sum{stage="denoise"} 2.0' in text
    assert "cogvideox_worker_ready 1.0" in text


async def test_unknown_page_is_not_found(client: httpx2.AsyncClient) -> None:
    assert (await client.get("/secrets")).status_code == 404
