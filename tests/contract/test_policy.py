"""What a deployment does not want to make is refused before it costs anything, by tenant and by end user."""

import asyncio
import base64
import io
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from server.deps import House
from server.grants import KeyTerms, Scope
from server.settings import GatewaySettings
from tests.moderation import Service, serving
from video_jobs.audit.search import Query, search
from video_jobs.errors import ContentRefused
from video_jobs.job import JobState, Outcome, Rendered
from video_jobs.limits import Tenant
from video_jobs.policy.terms import TenantPolicy
from video_jobs.policy.users import Measure, Restriction

BODY = {"model": "cogvideox-2", "prompt": "a red ball", "user_id": "user-1"}
OFF = {"sensitive_word_check": {"type": "ALL", "status": "DISABLE"}}


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with serving() as service:
        yield service


@pytest.fixture
def settings(redis_url: str, tmp_path: Path, service: Service) -> GatewaySettings:
    words = tmp_path / "zh.txt"
    words.write_text("违禁词\nbadword\n", "utf-8")
    return GatewaySettings(
        redis_url=redis_url,
        state=tmp_path,
        policy_words=(words,),
        moderation_url=service.url,
        moderation_key="secret-of-the-service",
        moderation_timeout_s=0.5,
    )


async def put_policy(house: House, **switches: object) -> None:
    await house.book.put_tenant("acme", Tenant(policy=TenantPolicy.model_validate(switches)))
    house.book._remembered.clear()
    house.intake._policy._book._remembered.clear()


async def test_a_sensitive_word_is_refused_in_the_contracts_shape(client: httpx2.AsyncClient, house: House) -> None:
    said = await client.post("/videos/generations", json=BODY | {"prompt": "一个 违-禁-词 在这里", "request_id": "r1"})

    assert said.status_code == 400
    assert said.json()["error"]["code"] == "1301"
    assert said.json()["contentFilter"] == [{"level": 1, "role": "user"}]
    assert said.headers["x-should-retry"] == "false"
    # Nothing is left: the same id may be used for a better prompt.
    assert (await client.post("/videos/generations", json=BODY | {"request_id": "r1"})).status_code == 200


async def test_a_tenants_switches_hold(client: httpx2.AsyncClient, house: House) -> None:
    async def status(**more: object) -> int:
        return (await client.post("/videos/generations", json=BODY | {"prompt": "badword"} | more)).status_code

    assert await status(**OFF) == 400, "a caller may not switch the check off by itself"
    await put_policy(house, caller_may_disable=True)
    assert await status() == 400
    assert await status(**OFF) == 200
    await put_policy(house, lists=["another"])
    assert await status() == 200
    await put_policy(house, words=False)
    assert await status() == 200


async def test_the_service_is_asked_about_prompts_and_heeded(
    client: httpx2.AsyncClient, house: House, service: Service
) -> None:
    service.verdict = {"allowed": False, "level": 0, "reason": "not in this house"}
    said = await client.post("/videos/generations", json=BODY)

    assert (said.status_code, said.json()["contentFilter"]) == (400, [{"level": 0, "role": "user"}])
    assert service.asked[0]["subject"] == "prompt"
    assert (service.asked[0]["text"], service.asked[0]["user_id"]) == ("a red ball", "user-1")
    assert service.authorization == "Bearer secret-of-the-service"


async def test_the_service_sees_a_small_picture_of_an_image(
    client: httpx2.AsyncClient, house: House, service: Service
) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (2000, 1000), "red").save(picture, "PNG")
    service.refuses = "image"
    image = base64.b64encode(picture.getvalue()).decode()
    said = await client.post("/videos/generations", json={"model": "cogvideox-2", "image_url": image})

    assert said.json()["error"]["code"] == "1301"
    (shown,) = next(asked for asked in service.asked if asked["subject"] == "image")["images"]
    with Image.open(io.BytesIO(base64.b64decode(shown["data"]))) as small:
        assert (small.format, small.size) == ("JPEG", (768, 384))


@pytest.mark.parametrize("trouble", ["slow", "broken", "failing"])
async def test_without_a_verdict_the_tenants_choice_holds(
    trouble: str, client: httpx2.AsyncClient, house: House, service: Service
) -> None:
    service.trouble = trouble
    closed = await client.post("/videos/generations", json=BODY)
    await put_policy(house, moderation_fails="open")
    opened = await client.post("/videos/generations", json=BODY)
    await put_policy(house, moderation=False)
    unasked = len(service.asked)

    assert (closed.status_code, closed.json()["error"]["code"]) == (503, "1234")
    assert opened.status_code == 200
    record = await house.store.get(opened.json()["id"])
    assert record is not None
    assert record.job.policy.verdicts == {"words": "passed", "prompt": "unanswered"}
    assert (await client.post("/videos/generations", json=BODY)).status_code == 200
    assert len(service.asked) == unasked


async def test_changed_words_hold_without_a_restart(
    client: httpx2.AsyncClient, house: House, settings: GatewaySettings
) -> None:
    settings.policy_words[0].write_text("red ball\n", "utf-8")
    await house.policy.words.refresh()

    assert (await client.post("/videos/generations", json=BODY)).json()["error"]["code"] == "1301"


@pytest.fixture
def restrict(house: House) -> Callable[..., object]:
    async def put(measure: Measure, user: str = "user-1", **more: object) -> None:
        given = {"tenant": "acme", "user_id": user, "measure": measure, "reason": "spam since Monday", "by": "ops"}
        await house.policy.users.restrict(Restriction.model_validate(given | more))

    return put


async def test_one_end_user_is_blocked_until_the_end_of_it(
    client: httpx2.AsyncClient, house: House, restrict: Callable[..., object]
) -> None:
    await restrict(Measure.BLOCK, until_ms=round(time.time() * 1000) + 600)  # type: ignore[misc]
    refused = await client.post("/videos/generations", json=BODY)

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "1300")
    assert "spam since Monday" in refused.json()["error"]["message"]
    assert (await client.post("/videos/generations", json=BODY | {"user_id": "user-2"})).status_code == 200
    await asyncio.sleep(0.7)
    assert (await client.post("/videos/generations", json=BODY)).status_code == 200
    assert await house.policy.users.list() == []


async def test_one_end_user_is_throttled(client: httpx2.AsyncClient, restrict: Callable[..., object]) -> None:
    await restrict(Measure.THROTTLE, per_minute=3)  # type: ignore[misc]
    said = [await client.post("/videos/generations", json=BODY) for _ in range(5)]

    assert [answer.status_code for answer in said] == [200, 200, 200, 429, 429]
    assert said[3].json()["error"]["code"] == "1302"
    assert 0 < int(said[3].headers["retry-after"]) <= 20
    assert (await client.post("/videos/generations", json=BODY | {"user_id": "user-2"})).status_code == 200


async def test_one_end_user_is_warned_and_nothing_more(
    client: httpx2.AsyncClient, house: House, restrict: Callable[..., object]
) -> None:
    await restrict(Measure.WARN)  # type: ignore[misc]
    assert (await client.post("/videos/generations", json=BODY)).json()["warning"] == "spam since Monday"
    assert await house.policy.users.lift("acme", "user-1")
    assert "warning" not in (await client.post("/videos/generations", json=BODY)).json()


async def test_verdicts_are_on_record_and_the_matched_word_is_content(client: httpx2.AsyncClient, house: House) -> None:
    await client.post("/videos/generations", json=BODY | {"prompt": "badword"})
    await client.post("/videos/generations", json=BODY)
    await house.audit.sealer.work()

    refused, accepted = [record async for record in search(house.audit.trail, Query(user_id="user-1"))]

    assert (refused["detail"], refused["list"], refused["matched"]) == ("1301", "zh", "badword")
    assert accepted["policy"] == {"words": "passed", "prompt": "passed"}
    sealed = b"".join(await house.audit.ledger.lines(0, 0, 10) or [])
    assert b"badword" not in sealed


async def test_a_missing_list_stops_the_start(redis_url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no"):
        GatewaySettings(redis_url=redis_url, state=tmp_path, policy_words=(tmp_path / "none.txt",))


async def test_a_refused_video_reads_as_the_contract_has_it(client: httpx2.AsyncClient, house: House) -> None:
    task = (await client.post("/videos/generations", json=BODY)).json()["id"]
    claim = await house.store.claim("w", ["tiny"])
    assert claim is not None
    rendered = Rendered(stages={"moderation": "video refused", "moderation_level": "0", "moderation_reason": "r"})
    failed = Outcome(state=JobState.FAILED, rendered=rendered, error_code=ContentRefused.code, error_message="no")
    await house.store.finish(claim, failed)

    body = (await client.get(f"/async-result/{task}")).json()

    assert (body["task_status"], body["error"]["code"]) == ("FAIL", "1301")
    assert body["contentFilter"] == [{"level": 0, "role": "assistant"}]
    assert "video_result" not in body
    await house.audit.sealer.work()
    ended = [record async for record in search(house.audit.trail, Query(task_id=task, event="failed"))]
    assert (ended[0]["error_code"], ended[0]["moderation"], ended[0]["reason"]) == (
        "content_refused",
        "video refused",
        "r",
    )


async def test_operators_restrict_end_users(house: House) -> None:
    key = await house.ring.create("ops", "test", KeyTerms(scopes=frozenset({Scope.ADMIN})))
    transport = httpx2.ASGITransport(app=house.app, raise_app_exceptions=False)  # type: ignore[attr-defined]
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://g/admin/v1", headers=headers) as operator:
        wanted = {"user_id": "user-1", "measure": "block", "reason": "spam"}
        assert (await operator.put("/tenants/acme/users", json=wanted)).status_code == 200
        assert (await operator.put("/tenants/acme/users", json=wanted | {"measure": "shout"})).status_code == 400
        (held,) = (await operator.get("/tenants/acme/users")).json()["users"]
        assert (held["measure"], held["reason"], held["by"]) == ("block", "spam", key.partition(".")[0])
        lifted = await operator.request("DELETE", "/tenants/acme/users", json={"user_id": "user-1"})
        assert lifted.json()["lifted"]
        assert (await operator.get("/tenants/acme/users")).json() == {"users": []}
