"""HEAD, OPTIONS, prefixes, slashes and origins; and every error of the framework in the contract's shape."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import ValidationError

from server.app import create_app
from server.deps import House
from server.settings import GatewaySettings
from tests.contract.test_refusals import OK, assert_shape

Opened = Callable[..., AbstractAsyncContextManager[httpx2.AsyncClient]]
CREATE, READ = "/api/paas/v4/videos/generations", "/api/paas/v4/async-result/1"


@pytest.fixture
def opened(redis_url: str, tmp_path: Path) -> Opened:
    """A gateway with these settings, and a client with a key."""

    @asynccontextmanager
    async def gateway(**changed: Any) -> AsyncIterator[httpx2.AsyncClient]:
        app = create_app(GatewaySettings(redis_url=redis_url, state=tmp_path, **changed))
        async with app.router.lifespan_context(app):
            key = await app.state.house.ring.create("acme", "test")
            transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
            headers = {"Authorization": key}
            async with httpx2.AsyncClient(
                transport=transport, base_url="http://gateway.test", headers=headers
            ) as client:
                yield client

    return gateway


@pytest.mark.parametrize(
    ("given", "path"),
    [("", ""), ("/", ""), ("/v4", "/v4"), ("/zhipu/api/paas/v4/", "/zhipu/api/paas/v4"), ("/a-b/v1.2", "/a-b/v1.2")],
)
async def test_api_is_served_under_the_prefix_and_nowhere_else(opened: Opened, given: str, path: str) -> None:
    async with opened(prefix=given) as client:
        assert (await client.post(f"{path}/videos/generations", json=OK)).status_code == 200
        assert (await client.post(f"http://gateway.test{path}//videos/generations", json=OK)).status_code == 200
        assert_shape(await client.post("/api/paas/v4/videos/generations", json=OK), 404, "1222")
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize("prefix", ["v4", "/a b", "/a//b", "/a?b", "/{x}"])
def test_prefix_that_is_no_path_is_told_at_the_start(prefix: str) -> None:
    with pytest.raises(ValidationError):
        GatewaySettings(prefix=prefix)


async def test_trailing_slash_is_no_redirect(opened: Opened) -> None:
    async with opened() as client:
        for path in (f"{CREATE}/", f"{READ}/", "/healthz/", "/api/paas/v4/", "/api/paas/v4"):
            assert_shape(await client.get(path), 404, "1222")


async def test_head_answers_as_get_without_its_body(opened: Opened) -> None:
    async with opened() as client:
        task = (await client.post(CREATE, json=OK)).json()["id"]
        for path in (f"/api/paas/v4/async-result/{task}", READ, "/healthz", "/readyz", "/nothing"):
            head, get = await client.head(path), await client.get(path)
            assert head.status_code == get.status_code, path
            assert head.headers["content-length"] == get.headers["content-length"]
            assert head.content == b"" or get.status_code == 404


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (CREATE, "GET, HEAD, OPTIONS, POST"),
        (READ, "DELETE, GET, HEAD, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/files/videos/x.mp4", "GET, HEAD, OPTIONS"),
    ],
)
async def test_options_and_a_wrong_method_tell_the_right_ones(opened: Opened, path: str, methods: str) -> None:
    async with opened() as client:
        asked = await client.options(path, headers={"Authorization": ""})
        wrong = await client.put(path, json={})
        nowhere = await client.options("/nothing")

    assert (asked.status_code, asked.headers["Allow"], asked.content) == (200, methods, b"")
    assert_shape(wrong, 405, "1212")
    assert wrong.headers["Allow"] == methods
    assert_shape(nowhere, 404, "1222")


def preflight(origin: str, **headers: str) -> dict[str, str]:
    return {"Origin": origin, "Access-Control-Request-Method": "POST", **headers}


def cors(reply: httpx2.Response) -> dict[str, str]:
    return {name: value for name, value in reply.headers.items() if name.startswith("access-control-")}


async def test_no_page_of_another_origin_is_let_in_by_default(opened: Opened) -> None:
    async with opened() as client:
        for origin in ("https://studio.example", "null", "http://gateway.test"):
            assert cors(await client.options(CREATE, headers=preflight(origin))) == {}
            assert cors(await client.post(CREATE, json=OK, headers={"Origin": origin})) == {}


async def test_listed_origins_are_let_in_and_no_others(opened: Opened) -> None:
    async with opened(cors_origins="https://studio.example,http://localhost:3000") as client:
        wanted = {"Access-Control-Request-Headers": "authorization, content-type,x-request-sdk"}
        asked = await client.options(CREATE, headers=preflight("https://studio.example", **wanted))
        called = await client.post(CREATE, json=OK, headers={"Origin": "http://localhost:3000"})
        failed = await client.get("/nothing", headers={"Origin": "http://localhost:3000"})
        strangers = [
            await client.options(CREATE, headers=preflight(origin))
            for origin in (
                "https://studio.example.evil",
                "http://studio.example",
                "https://x.studio.example",
                "null",
                "*",
            )
        ]

    assert cors(asked) == {
        "access-control-allow-origin": "https://studio.example",
        "access-control-expose-headers": "x-should-retry, Retry-After",
        "access-control-allow-methods": "GET, HEAD, OPTIONS, POST",
        "access-control-allow-headers": "authorization, content-type,x-request-sdk",
        "access-control-max-age": "600",
    }
    assert called.headers["access-control-allow-origin"] == failed.headers["access-control-allow-origin"]
    assert [cors(stranger) for stranger in strangers] == [{}] * 5
    assert {reply.headers["Vary"] for reply in (asked, called, *strangers)} == {"Origin"}


async def test_header_names_of_a_preflight_are_not_echoed_unread(opened: Opened) -> None:
    async with opened(cors_origins="*") as client:
        for odd in ("<script>", "a:b", "x" * 70, ",".join(["x"] * 40), "a;b"):
            headers = preflight("https://any.example", **{"Access-Control-Request-Headers": odd})
            reply = await client.options(CREATE, headers=headers)
            assert "access-control-allow-headers" not in reply.headers
            assert reply.headers["access-control-allow-origin"] == "https://any.example"


@pytest.mark.parametrize("origin", ["studio.example", "https://studio.example/", "ftp://x", "https://*.example"])
def test_origin_that_is_none_is_told_at_the_start(origin: str) -> None:
    with pytest.raises(ValidationError, match="not an origin"):
        GatewaySettings(cors_origins=origin)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Encoding": "gzip"},
        {"Content-Type": "application/json", "Content-Encoding": "br"},
    ],
)
async def test_form_and_packed_body_are_refused_as_such(client: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    assert_shape(await client.post("/videos/generations", content=b"{}", headers=headers), 415, "1210")


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=UTF-8"]
)
async def test_json_is_read_under_any_name(client: httpx2.AsyncClient, kind: str) -> None:
    content = b'{"model":"cogvideox-2","prompt":"a cat"}'
    reply = await client.post("/videos/generations", content=content, headers={"Content-Type": kind})

    assert reply.status_code == 200


async def test_slow_body_is_a_clear_refusal(house: House, client: httpx2.AsyncClient) -> None:
    import asyncio

    async def slowly() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(1)

    house.bodies._limit_s = 0.1
    assert_shape(await client.post("/videos/generations", content=slowly()), 400, "1210")


async def test_full_spool_is_told_to_come_back_later(
    house: House, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.body.MAX_SPOOLED_BYTES", 100_000)
    full = await client.post("/videos/generations", content=b" " * 200_000)
    fine = await client.post("/videos/generations", json=OK)

    assert_shape(full, 503, "1234")
    assert full.headers["Retry-After"] == "5"
    assert fine.status_code == 200
    assert house.bodies._spooled == 0


async def test_whatever_breaks_is_answered_in_the_same_shape(house: House, client: httpx2.AsyncClient) -> None:
    async def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    house.intake.submit = broken  # type: ignore[method-assign]
    reply = await client.post("/videos/generations", json=OK)

    assert_shape(reply, 500, "500")
    assert "Zero" not in reply.text


@pytest.mark.parametrize(
    ("path", "headers", "status", "code"),
    [
        ("/files/videos/1/video.mp4", {}, 403, "1220"),
        ("/files/videos/1/video.mp4?expires=1&signature=x", {}, 403, "1220"),
        ("/files/..%2f..%2fetc/passwd?expires=9999999999&signature=x", {}, 403, "1220"),
    ],
)
async def test_dead_link_answers_in_the_same_shape(
    opened: Opened, path: str, headers: dict[str, str], status: int, code: str
) -> None:
    async with opened() as client:
        assert_shape(await client.get(path, headers=headers), status, code)


async def test_range_beyond_a_file_keeps_its_header_and_gets_our_words(house: House, tmp_path: Path) -> None:
    clip = tmp_path / "clip"
    clip.write_bytes(bytes(256))
    house.results.put("videos/1/video.mp4", clip, "")
    link = house.signer.link("videos/1/video.mp4", 9_999_999_999)
    gone = house.signer.link("videos/1/gone.mp4", 9_999_999_999)
    transport = httpx2.ASGITransport(app=house.app)  # type: ignore[attr-defined]
    async with httpx2.AsyncClient(transport=transport) as anybody:
        beyond = await anybody.get(link, headers={"Range": "bytes=999-"})
        assert_shape(beyond, 416, "1210")
        assert_shape(await anybody.get(link, headers={"Range": "bytes=x-y"}), 400, "1210")
        assert_shape(await anybody.get(gone), 404, "1222")

    assert beyond.headers["Content-Range"] in ("*/256", "bytes */256")
