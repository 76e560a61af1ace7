"""Four gateways as processes of their own on one Redis: limits hold together, revocation reaches all, nothing leaks."""

import asyncio
import contextlib
import http.server
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest

from server.grants import KeyTerms
from server.keys import KeyRing
from tests.gateway import Gateway
from video_jobs import keys
from video_jobs.limits import Limits, Tenant
from video_jobs.links import secret_file
from video_jobs.queue import lazy_redis
from video_jobs.store import JobStore
from video_jobs.tenants import TenantBook

BODY = {"model": "cogvideox-2", "prompt": "a cat", "size": "720x480"}
GATEWAYS, CALLS, PER_MINUTE = 4, 500, 10
REFILL_S = 60 / PER_MINUTE
pytestmark = pytest.mark.timeout(300)


class Slow(http.server.BaseHTTPRequestHandler):
    """An image that never comes to an end."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(600):
                self.wfile.write(b"x")
                time.sleep(0.1)

    def log_message(self, *_: object) -> None:
        """A file server that says nothing."""


@pytest.fixture
def slow_image() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def gateways(redis_url: str, tmp_path: Path, slow_image: str) -> Iterator[list[Gateway]]:
    with contextlib.ExitStack() as opened:
        yield [opened.enter_context(Gateway(redis_url, tmp_path, IMAGE_ALLOW=slow_image)) for _ in range(GATEWAYS)]


@pytest.fixture
async def book(redis_url: str) -> AsyncIterator[TenantBook]:
    redis = lazy_redis(redis_url)
    yield TenantBook(JobStore(redis))
    await redis.aclose()


def caller(key: str) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=CALLS)
    return httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=120, limits=limits)


async def redis_seconds(book: TenantBook) -> float:
    seconds, micros = await book.redis.time()
    return float(seconds + micros / 1e6)


async def test_limit_holds_over_all_gateways_together(
    gateways: list[Gateway], book: TenantBook, capsys: pytest.CaptureFixture[str]
) -> None:
    await book.put_tenant("acme", Tenant(limits=Limits(requests_per_minute=PER_MINUTE)))
    async with caller(gateways[0].key) as client:

        async def call(number: int) -> int:
            reply = await client.post(f"{gateways[number % GATEWAYS].api}/videos/generations", json=BODY)
            return reply.status_code

        answers = await asyncio.gather(*(call(number) for number in range(CALLS)))
        first_s = min(await accepted_at(book))
        # Calls go on, until well between two refills.
        while (elapsed := await redis_seconds(book) - first_s) < 2 * REFILL_S or not 2 < elapsed % REFILL_S < 4:
            answers.append(await call(len(answers)))

    times = await accepted_at(book)
    with capsys.disabled():
        print(f"\n{len(answers)} calls in {elapsed:.1f} s by Redis time: {len(times)} accepted")
    assert set(answers) == {200, 429}
    assert answers.count(200) == len(times) == PER_MINUTE + int(elapsed // REFILL_S)


async def accepted_at(book: TenantBook) -> list[float]:
    ids = await book.redis.zrange(keys.tenant_jobs("acme"), 0, -1)
    told = [await book.redis.hget(keys.job(job_id.decode()), "accepted_ms") for job_id in ids]
    return sorted(int(ms) / 1000 for ms in told)


async def test_killed_gateway_leaks_no_slot(gateways: list[Gateway], book: TenantBook, slow_image: str) -> None:
    await book.put_tenant("acme", Tenant(limits=Limits(in_flight=1, image_intakes=1, gpu_seconds_per_day=1e6)))
    async with caller(gateways[0].key) as client:
        body = BODY | {"image_url": f"http://{slow_image}/first.png"}
        hanging = asyncio.create_task(client.post(f"{gateways[0].api}/videos/generations", json=body))
        async with asyncio.timeout(20):
            while (await book.standing("acme"))["held"] == 0:
                await asyncio.sleep(0.05)
        gateways[0].process.send_signal(signal.SIGKILL)
        with pytest.raises(httpx2.TransportError):
            await hanging
        assert (await client.post(f"{gateways[1].api}/videos/generations", json=BODY)).status_code == 429
        # A minute later.
        for held in await book.redis.zrange(keys.TENANCY + "held", 0, -1):
            await book.redis.zadd(keys.TENANCY + "held", {held: 1})
        assert (await client.post(f"{gateways[2].api}/videos/generations", json=BODY)).status_code == 200

    assert await book.standing("acme") == {"queued": 1, "running": 0, "held": 0}


async def test_revocation_reaches_every_gateway_within_five_seconds(
    gateways: list[Gateway], book: TenantBook, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ring = KeyRing(book.redis, secret_file(tmp_path / "master.key"))
    revoked, rolled, closed = [await ring.create(tenant, "", KeyTerms()) for tenant in ("acme", "acme", "globex")]

    async def seconds_until_shut(gateway: Gateway, key: str) -> float:
        began = time.monotonic()
        async with caller(key) as client:
            while (await client.get(f"{gateway.api}/async-result/1")).status_code not in (401, 403, 429):
                await asyncio.sleep(0.02)
        return time.monotonic() - began

    async with caller(revoked) as client:
        for gateway in gateways:
            for key in (revoked, rolled, closed):
                headers = {"Authorization": key}
                reply = await client.get(f"{gateway.api}/async-result/1", headers=headers)
                assert reply.status_code == 400, "let in, and remembered"
    assert await ring.revoke(revoked.partition(".")[0])
    assert await ring.roll(rolled.partition(".")[0], overlap_s=0)
    await book.put_tenant("globex", Tenant(enabled=False))

    waits = await asyncio.gather(
        *(seconds_until_shut(gateway, key) for gateway in gateways for key in (revoked, rolled, closed))
    )
    with capsys.disabled():
        print(f"\nshut on all of {GATEWAYS} gateways after at most {max(waits):.2f} s")
    assert max(waits) < 5
