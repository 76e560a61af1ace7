"""One `request_id`, one task: for seven days, under parallel copies, and whatever became of the world since."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from server.deps import House
from server.settings import GatewaySettings
from tests.contract.test_bodies import png
from tests.contract.test_fields import gateway
from video_jobs import keys
from video_jobs.sweeper import Sweeper

WEEK_MS = 7 * 24 * 3600 * 1000
BODY = {"model": "cogvideox-2", "prompt": "a cat", "request_id": "order-1"}


class PictureServer:
    """A file server that counts who comes, and that can go away."""

    def __init__(self) -> None:
        self.visits = 0
        self.server: asyncio.Server | None = None

    async def open(self) -> str:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        if self.server:
            self.server.close()
            await self.server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        await reader.readline()
        picture = png()
        await asyncio.sleep(0.2)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(picture), picture))
        writer.close()
        await writer.wait_closed()


@pytest.fixture
async def pictures() -> AsyncIterator[PictureServer]:
    server = PictureServer()
    yield server
    await server.close()


async def post(client: httpx2.AsyncClient, **body: Any) -> httpx2.Response:
    return await client.post("/videos/generations", json=BODY | body)


async def test_fifty_copies_at_once_make_one_task_and_fetch_one_picture(
    redis_url: str, tmp_path: Path, pictures: PictureServer
) -> None:
    place = await pictures.open()
    async with gateway(redis_url, tmp_path, image_allow=place) as (client, house):
        replies = await asyncio.gather(*(post(client, image_url=f"http://{place}/a.png") for _ in range(50)))
        jobs = await house.store.newest("acme", 100)

    assert {reply.status_code for reply in replies} == {200}
    assert len({reply.text for reply in replies}) == 1
    assert jobs is not None
    assert (len(jobs), pictures.visits) == (1, 1)


async def test_copy_is_answered_though_the_pictures_address_died(
    redis_url: str, tmp_path: Path, pictures: PictureServer
) -> None:
    place = await pictures.open()
    async with gateway(redis_url, tmp_path, image_allow=place) as (client, _):
        first = await post(client, image_url=f"http://{place}/a.png")
        await pictures.close()
        again = await post(client, image_url=f"http://{place}/a.png")
        new = await post(client, image_url=f"http://{place}/a.png", request_id="order-2")

    assert first.json() == again.json()
    assert first.status_code == again.status_code == 200
    assert (new.status_code, new.json()["error"]["code"]) == (400, "1214"), "a new one does need the picture"


async def test_copy_is_answered_though_its_like_would_be_refused_by_now(redis_url: str, tmp_path: Path) -> None:
    """Another gateway, after a restart, that offers less than the first one did."""
    async with gateway(redis_url, tmp_path) as (client, _):
        first = await post(client, size="3840x2160", duration=10)
        header = client.headers["Authorization"]
    async with gateway(redis_url, tmp_path, max_size="1920x1080", max_duration=5) as (client, _):
        client.headers["Authorization"] = header
        again = await post(client, size="3840x2160", duration=10)
        new = await post(client, size="3840x2160", request_id="order-2")

    assert first.json() == again.json()
    assert (new.status_code, new.json()["error"]["code"]) == (400, "1214")


async def test_order_of_names_and_nulls_make_no_other_body(client: httpx2.AsyncClient) -> None:
    first = await post(client)
    same = await post(client, size=None, image_url=None, user_id=None)
    turned = await client.post("/videos/generations", json=dict(reversed(BODY.items())))
    others = [await post(client, **change) for change in ({"prompt": "a dog"}, {"seed": 1}, {"style": "general"})]

    assert first.json() == same.json() == turned.json()
    assert {(reply.status_code, reply.json()["error"]["code"]) for reply in others} == {(400, "1231")}


async def test_request_id_belongs_to_its_tenant(client: httpx2.AsyncClient, house: House) -> None:
    other = await house.ring.create("globex", "test")
    mine = await post(client)
    theirs = await client.post("/videos/generations", json=BODY, headers={"Authorization": other})

    assert mine.status_code == theirs.status_code == 200
    assert mine.json()["id"] != theirs.json()["id"]


async def test_it_is_remembered_for_seven_days(client: httpx2.AsyncClient, house: House) -> None:
    await post(client)

    left_ms = await house.redis.pttl(keys.idempotency("acme", "order-1"))
    assert WEEK_MS - 60_000 < left_ms <= WEEK_MS


async def test_it_is_remembered_for_longer_than_a_short_retention(client: httpx2.AsyncClient, house: House) -> None:
    """The record, the video and all are gone by then: the same request must not cost a second video all the same."""
    first = await post(client)
    await house.store.cancel("acme", first.json()["id"])
    assert await Sweeper(house.store, house.results, -1).sweep_jobs() == 1
    again, other = await post(client), await post(client, prompt="a dog")
    polled = await client.get(f"/async-result/{first.json()['id']}")

    assert again.json() == first.json()
    assert await house.store.newest("acme", 10) == []
    assert (other.status_code, other.json()["error"]["code"]) == (400, "1231")
    assert (polled.status_code, polled.json()["error"]["code"]) == (400, "1214"), "as an expired one"


async def test_refused_request_does_not_use_up_its_id(client: httpx2.AsyncClient) -> None:
    for change in ({"size": "1x1"}, {"image_url": "not base64!"}, {"prompt": ""}):
        assert (await post(client, **change)).status_code == 400

    assert (await post(client)).status_code == 200


async def test_without_one_each_request_is_a_task_of_its_own(client: httpx2.AsyncClient) -> None:
    replies = [await post(client, request_id=None) for _ in range(3)]

    assert len({reply.json()["id"] for reply in replies}) == 3
    assert len({reply.json()["request_id"] for reply in replies}) == 3


async def test_parallel_copies_of_two_bodies_make_one_task(
    client: httpx2.AsyncClient, settings: GatewaySettings
) -> None:
    bodies = [BODY | {"prompt": f"cat {n % 2}"} for n in range(40)]
    replies = await asyncio.gather(*(client.post("/videos/generations", json=body) for body in bodies))

    made = {reply.json()["id"] for reply in replies if reply.status_code == 200}
    refused = [reply.json()["error"]["code"] for reply in replies if reply.status_code != 200]
    assert len(made) == 1
    assert refused == ["1231"] * 20
