"""A gateway is ready only on a Redis that keeps what it is told, and a store that can be written."""

import asyncio
import base64
import errno
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from server import health
from server.app import create_app
from server.deps import House
from server.metrics import GatewayMetrics
from server.settings import GatewaySettings
from tests.contract.test_bodies import png
from tests.contract.test_refusals import assert_shape
from video_jobs.limits import Tenant, Terms

Warned = Callable[[], list[str]]


@pytest.fixture
async def anybody(house: House) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=house.app, raise_app_exceptions=False)  # type: ignore[attr-defined]
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway.test") as client:
        yield client


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Warned:
    """What readiness warned of since the start of the test, though the process said it before."""
    health._warn_once.cache_clear()
    return lambda: [line.message for line in caplog.records if line.name == health.__name__]


async def test_safe_redis_and_writable_store_are_ready(anybody: httpx2.AsyncClient) -> None:
    assert (await anybody.get("/healthz")).status_code == 200
    assert (await anybody.get("/readyz")).json() == {"ready": True, "problems": []}


@pytest.mark.parametrize(
    ("setting", "unsafe", "safe"),
    [
        ("appendonly", "no", "yes"),
        ("appendfsync", "no", "always"),
        ("no-appendfsync-on-rewrite", "yes", "no"),
        ("maxmemory-policy", "allkeys-lru", "noeviction"),
    ],
)
async def test_unsafe_redis_is_not_ready_unless_allowed_by_name(
    house: House, anybody: httpx2.AsyncClient, setting: str, unsafe: str, safe: str
) -> None:
    await house.redis.config_set(setting, unsafe)
    try:
        refused = await anybody.get("/readyz")
        house.settings = house.settings.model_copy(update={"allow_unsafe_redis": True})
        allowed = await anybody.get("/readyz")
    finally:
        await house.redis.config_set(setting, safe)

    assert (refused.status_code, allowed.status_code) == (503, 200)
    assert len(refused.json()["problems"]) == 1


async def test_redis_that_syncs_once_a_second_is_ready_and_warned_of(
    house: House, anybody: httpx2.AsyncClient, warned: Warned
) -> None:
    await house.redis.config_set("appendfsync", "everysec")
    try:
        replies = [await anybody.get("/readyz") for _ in range(2)]
    finally:
        await house.redis.config_set("appendfsync", "always")

    assert [(reply.status_code, reply.json()["problems"]) for reply in replies] == [(200, []), (200, [])]
    assert warned() == ["redis syncs once a second: a power cut may lose the last second of accepted jobs"]


async def test_redis_that_hides_its_configuration_is_ready_only_where_it_is_vouched_for(
    house: House, anybody: httpx2.AsyncClient, warned: Warned
) -> None:
    await house.redis.execute_command("ACL", "SETUSER", "default", "-config")
    try:
        refused = await anybody.get("/readyz")
        unheard = warned()
        house.settings = house.settings.model_copy(update={"allow_unsafe_redis": True})
        allowed = await anybody.get("/readyz")
    finally:
        await house.redis.execute_command("ACL", "SETUSER", "default", "+@all")

    assert (refused.status_code, refused.json()["problems"]) == (503, [health.HIDDEN])
    assert unheard == []
    assert (allowed.status_code, allowed.json()) == (200, {"ready": True, "problems": []})
    assert [health.HIDDEN in line for line in warned()] == [True]


async def test_store_that_cannot_be_written_is_not_ready(house: House, anybody: httpx2.AsyncClient) -> None:
    house.results.root = Path("/proc/nowhere")

    reply = await anybody.get("/readyz")
    assert_shape(reply, 503, "1234")
    assert reply.json()["problems"]


async def test_picture_that_cannot_be_kept_is_503_and_leaves_its_request_id_free(
    house: House, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise OSError(5, "S3 answered 500")

    request = {"model": "cogvideox-2", "request_id": "order-1", "image_url": base64.b64encode(png()).decode()}
    with monkeypatch.context() as outage:
        outage.setattr(house.results, "put", away)
        refused = await client.post("/videos/generations", json=request)
    again = await client.post("/videos/generations", json=request)

    assert_shape(refused, 503, "1234")
    assert refused.headers["Retry-After"]
    assert "S3" not in refused.text
    assert again.status_code == 200


async def test_redis_away_is_503_with_retry_after_and_the_gateway_lives(tmp_path: Path) -> None:
    settings = GatewaySettings(redis_url=f"unix://{tmp_path}/none.sock", state=tmp_path)
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://gateway.test") as client:
            call = await client.get("/api/paas/v4/async-result/1", headers={"Authorization": "a.b"})
            ready, alive = await client.get("/readyz"), await client.get("/healthz")

    assert (call.status_code, call.json()["error"]["code"], call.headers["Retry-After"]) == (503, "1234", "5")
    assert (ready.status_code, alive.status_code) == (503, 200)


async def test_links_start_with_the_public_url_never_the_host_header(house: House) -> None:
    assert urlsplit(house.signer.link("a", 1)).netloc == "gateway.test"


def test_callers_cannot_make_label_values() -> None:
    metrics = GatewayMetrics()
    for path in ("create_video", "nonsense", "more nonsense"):
        metrics.note(path, 200, 0.1)

    families = [family for family in metrics.registry.collect() if family.name.startswith("cogvideox_http")]
    labels = {sample.labels["route"] for family in families for sample in family.samples}
    assert labels == {"create_video", "other"}


async def test_jobs_of_every_route_of_the_catalogue_are_counted(house: House) -> None:
    value = house.metrics.registry.get_sample_value
    labels = {"route": "cogvideox-5b", "class": "standard"}
    async with asyncio.timeout(10):
        while value("cogvideox_jobs_queued", labels) is None:
            await asyncio.sleep(0.05)

    assert house.settings.checkpoint != "cogvideox-5b"
    assert value("cogvideox_workers_ready", {"route": "cogvideox-5b"}) == 0


async def test_accepted_jobs_are_counted_by_plan(client: httpx2.AsyncClient, house: House) -> None:
    await house.book.put_plan("studio", Terms())
    await house.book.put_tenant("studios", Tenant(plan="studio"))
    client.headers["Authorization"] = f"Bearer {await house.ring.create('studios', 'test')}"
    body = {"model": "cogvideox-2", "prompt": "a cat", "request_id": "once-1"}
    for _ in range(2):
        assert (await client.post("/videos/generations", json=body)).status_code == 200

    value = house.metrics.registry.get_sample_value
    assert value("cogvideox_plan_jobs_total", {"plan": "studio"}) == 1
    assert value("cogvideox_accepted_total", {"class": "standard"}) == 1


async def test_what_redis_and_the_store_fail_to_do_is_counted(
    client: httpx2.AsyncClient, anybody: httpx2.AsyncClient, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def errors(dependency: str) -> float | None:
        return house.metrics.registry.get_sample_value("cogvideox_dependency_errors_total", {"dependency": dependency})

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def away(*_: object) -> None:
        raise RedisConnectionError

    assert (errors("redis"), errors("store")) == (0, 0)
    assert house.metrics.registry.get_sample_value("cogvideox_gateway_ready") is not None
    monkeypatch.setattr(house.results, "check", full)
    monkeypatch.setattr(house.store, "accept", away)
    assert (await anybody.get("/readyz")).status_code == 503
    refused = await client.post("/videos/generations", json={"model": "cogvideox-2", "prompt": "a cat"})

    assert refused.status_code == 503
    assert (errors("redis"), errors("store")) == (1, 1)
    assert house.metrics.registry.get_sample_value("cogvideox_gateway_ready") == 0
    monkeypatch.undo()
    assert (await anybody.get("/readyz")).status_code == 200
    assert house.metrics.registry.get_sample_value("cogvideox_gateway_ready") == 1


async def test_what_no_stage_can_do_is_refused_by_setting(client: httpx2.AsyncClient, house: House) -> None:
    body = {"model": "cogvideox-2", "prompt": "a cat", "with_audio": True}
    taken = await client.post("/videos/generations", json=body)
    house.intake._settings = house.settings.model_copy(update={"refuse_unavailable": True})
    refused = await client.post("/videos/generations", json=body)

    assert taken.status_code == 200
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "1214")
    assert "with_audio" in refused.text
