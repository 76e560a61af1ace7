"""What callers and strangers do at the gateway is on record; floods of it stop nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from server.deps import House
from server.grants import KeyTerms, Scope
from video_jobs import keys
from video_jobs.audit.search import Query, search
from video_jobs.audit.verify import verify
from video_jobs.job import JobState, Outcome, Rendered, VideoFile

BODY = {"model": "cogvideox-2", "prompt": "a red ball", "user_id": "user-1", "request_id": "mine"}


async def records(house: House, **query: object) -> list[dict[str, object]]:
    await house.audit.log.flush()
    await house.redis.hset(keys.AUDIT_COUNTS, "minute", 1)
    await house.audit.sealer.work()
    return [record async for record in search(house.audit.trail, Query(**query))]


@pytest.fixture
async def operator(house: House) -> AsyncIterator[httpx2.AsyncClient]:
    key = await house.ring.create("ops", "test", KeyTerms(scopes=frozenset({Scope.ADMIN})))
    transport = httpx2.ASGITransport(app=house.app, raise_app_exceptions=False, client=("198.51.100.4", 1))
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://gateway.test/admin/v1", headers=headers
    ) as opened:
        yield opened


async def test_an_accepted_job_tells_where_it_came_from(client: httpx2.AsyncClient, house: House) -> None:
    said = await client.post(
        "/videos/generations", json=BODY, headers={"User-Agent": "sdk/1 cvx-0123456789abcdef.SECRET1"}
    )

    (record,) = await records(house, user_id="user-1")

    assert record["task_id"] == said.json()["id"]
    assert (record["event"], record["tenant"], record["request_id"]) == ("accepted", "acme", "mine")
    assert (record["client"], record["user_agent"], record["prompt"]) == ("127.0.0.1", "sdk/1 [secret]", "a red ball")
    assert record["parameters"]["fps"] == 30


async def test_a_refusal_of_a_known_caller_is_on_record(client: httpx2.AsyncClient, house: House) -> None:
    await client.post("/videos/generations", json=BODY | {"size": "1x1"})

    (record,) = await records(house, event="refused")

    assert (record["detail"], record["route"]) == ("1214", "create_video")
    assert (record["tenant"], record["user_id"], record["request_id"]) == ("acme", "user-1", "mine")


async def test_polls_and_strangers_are_counted(client: httpx2.AsyncClient, house: House) -> None:
    task = (await client.post("/videos/generations", json=BODY)).json()["id"]
    for _ in range(3):
        await client.get(f"/async-result/{task}")
        await client.get(f"/async-result/{task}", headers={"Authorization": "Bearer nobody.nothing"})

    counted = await records(house, event="counted")

    assert counted[-1]["counts"] == {"polls:acme": 3, "anonymous:1000": 3}


async def test_links_are_on_record_before_they_leave_and_only_once(client: httpx2.AsyncClient, house: House) -> None:
    task = (await client.post("/videos/generations", json=BODY)).json()["id"]
    claim = await house.store.claim("w", ["tiny"])
    assert claim is not None
    video = VideoFile(key="videos/v.mp4", cover_key="videos/c.jpg", size_bytes=1, sha256="ab" * 32)
    await house.store.finish(claim, Outcome(state=JobState.SUCCEEDED, rendered=Rendered(), video=video))
    for _ in range(3):
        link = (await client.get(f"/async-result/{task}")).json()["video_result"][0]["url"]
        await client.get("/videos/generations")

    (record,) = await records(house, event="link issued")

    assert (record["task_id"], record["user_id"], record["client"]) == (task, "user-1", "127.0.0.1")
    assert "signature" in link
    assert "signature" not in json.dumps(await records(house))


async def test_a_flood_of_strangers_leaves_audit_and_accept_working(client: httpx2.AsyncClient, house: House) -> None:
    before = (await house.audit.ledger.state()).newest
    wrong = {"Authorization": "Bearer nobody.nothing"}

    async def flood() -> None:
        for _ in range(100):
            assert (await client.post("/videos/generations", headers=wrong)).status_code == 401

    await asyncio.gather(*(flood() for _ in range(20)))

    assert (await client.post("/videos/generations", json=BODY)).status_code == 200
    counted = await records(house, event="counted")
    assert sum(record["counts"].get("anonymous:1000", 0) for record in counted) == 2000
    assert (await house.audit.ledger.state()).newest - before <= 4


async def test_every_call_of_an_operator_is_on_record(operator: httpx2.AsyncClient, house: House) -> None:
    assert (await operator.put("/tenants/zeta", json={"weight": 2})).status_code == 200
    assert (await operator.put("/tenants/zeta", json={"wait": 2})).status_code == 400

    told = await records(house, event="admin")
    refused = await records(house, event="refused")

    assert [record["detail"] for record in told] == ["PUT /admin/v1/tenants/zeta"] * 2
    assert [record["about"] for record in told] == ['{"weight": 2}', '{"wait": 2}']
    assert {record["tenant"] for record in told} == {"zeta"}
    assert {record["client"] for record in told} == {"198.51.100.4"}
    assert [record["detail"] for record in refused] == ["1214"]


async def test_what_operators_do_to_keys_is_on_record_without_a_secret(
    operator: httpx2.AsyncClient, house: House
) -> None:
    made = (await operator.post("/tenants/zeta/keys", json={"name": "web", "scopes": ["admin"]})).json()
    rolled = (await operator.post(f"/keys/{made['id']}/roll", json={"overlap_s": 1})).json()
    brought = "brought.one.of.anothers-secrets", "brought-1.secretsecretsecret"
    for whole in brought:
        await operator.post("/tenants/zeta/keys/import", json={"key": whole})
    big = await operator.post("/tenants/zeta/keys", content=b"x" * (1 << 21))

    told = await records(house, event="admin")

    assert big.status_code == 413
    assert [record["about"] for record in told if record["detail"] == "key made"] == [made["id"], rolled["id"]]
    assert any('"admin"' in str(record["about"]) for record in told)
    assert len(told) == 2 + 2 + len(brought) + 1
    everything = json.dumps(await records(house))
    assert not [key for key in (made["key"], rolled["key"], *brought) if key.partition(".")[2] in everything]


async def test_operators_search_check_and_erase(
    operator: httpx2.AsyncClient, client: httpx2.AsyncClient, house: House
) -> None:
    for number in ("first", "second"):
        said = {"prompt": "=cmd|' /C calc'!A0", "request_id": f"{number} request"}
        await client.post("/videos/generations", json=BODY | said)
    await house.audit.sealer.work()
    sheet = (await operator.get("/audit", params={"user": "user-1", "format": "csv"})).text
    assert "'=cmd" in sheet
    assert (await operator.get("/audit", params={"user": "user-1"})).json()["records"][0]["prompt"].startswith("=cmd")
    assert (await operator.get("/audit/verify")).json()["ok"]
    cut = await operator.get("/audit", params={"limit": 1})
    assert (len(cut.json()["records"]), cut.json()["has_more"]) == (1, True)
    assert (await operator.get("/audit", params={"limit": 1, "format": "csv"})).headers["has-more"] == "true"

    await operator.post("/audit/erase", json={"tenant": "acme", "user_id": "user-1"})
    await house.audit.sealer.settle()
    await house.audit.sealer.work()
    await house.audit.sealer.settle()

    found = (await operator.get("/audit", params={"user": "user-1"})).json()["records"]
    assert "prompt" not in found[0]
    assert (await operator.get("/audit/verify")).json()["ok"]
    assert len((await operator.get("/audit/key")).json()["public_key"]) == 64


async def test_a_full_backlog_closes_accept_and_nothing_else(client: httpx2.AsyncClient, house: House) -> None:
    task = (await client.post("/videos/generations", json=BODY)).json()["id"]
    await house.redis.hset(keys.AUDIT_STATE, mapping={"cap": 1, "holder": "nobody else", "until": 1 << 50})
    said = await client.post("/videos/generations", json=BODY | {"request_id": "another"})

    assert (said.status_code, said.json()["error"]["code"], said.headers["retry-after"]) == (503, "1234", "5")
    assert (await client.get(f"/async-result/{task}")).status_code == 200
    await house.redis.hset(keys.AUDIT_STATE, mapping={"cap": 1000})
    assert (await client.post("/videos/generations", json=BODY | {"request_id": "another"})).status_code == 200


async def test_the_trail_holds_under_a_running_gateway(
    client: httpx2.AsyncClient, house: House, tmp_path: Path
) -> None:
    await asyncio.gather(*(client.post("/videos/generations", json=BODY | {"request_id": str(n)}) for n in range(50)))
    await records(house)

    office = house.audit
    (chain,) = await office.trail.chains()
    report = await verify(office.archive, office.ledger, chain, office.trust)
    assert report.bad is None
    assert report.records >= 50
