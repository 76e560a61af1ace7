"""What a caller is told at a limit: the contract's codes, when to come again, and whether a retry may help."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from server.deps import House
from video_jobs.job import JobState, Outcome
from video_jobs.limits import Limits, Tenant, Terms

BODY = {"model": "cogvideox-2", "prompt": "a cat", "size": "720x480"}
Limit = Callable[..., Awaitable[None]]


@pytest.fixture
def limit(house: House) -> Limit:
    async def put(**limits: Any) -> None:
        await house.book.put_tenant("acme", Tenant(limits=Limits(**limits)))

    return put


async def post(client: httpx2.AsyncClient, **fields: Any) -> httpx2.Response:
    return await client.post("/videos/generations", json=BODY | fields, headers={"Accept-Language": "en"})


async def test_accepted_requests_tell_what_is_left_of_the_rate(client: httpx2.AsyncClient, limit: Limit) -> None:
    await limit(requests_per_minute=30, user_requests_per_minute=10)

    first, second = await post(client), await post(client, user_id="user-1")

    assert first.headers["RateLimit-Policy"] == '"requests-per-minute";q=30;w=60'
    assert first.headers["RateLimit"] == '"requests-per-minute";r=29;t=2'
    assert second.headers["RateLimit"] == '"requests-per-minute";r=9;t=6'


@pytest.mark.parametrize(
    ("limits", "code", "said", "helps"),
    [
        ({"requests_per_minute": 1}, "1302", "requests per minute", "false"),
        ({"requests_per_minute": 20, "user_requests_per_minute": 1}, "1302", "of this end user", "false"),
        ({"queued": 1}, "1302", "tasks in line", None),
        ({"in_flight": 1}, "1302", "tasks that have not ended", None),
        ({"user_in_flight": 1}, "1302", "of this end user", None),
        ({"gpu_seconds_per_day": 1e-3}, "1308", "GPU seconds a day reached. Your limit will reset at 20", "false"),
        ({"gpu_seconds_per_month": 1e-3}, "1308", "GPU seconds a month reached. Your limit will reset at 20", "false"),
        ({"prepaid_gpu_seconds": 0}, "1113", "in arrears", "false"),
    ],
)
async def test_limit_answers_with_its_code(
    client: httpx2.AsyncClient, limit: Limit, limits: dict[str, Any], code: str, said: str, helps: str | None
) -> None:
    await limit(**limits)
    for _ in range(2):
        reply = await post(client, user_id="user-1")

    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (429, code)
    assert said in error["message"]
    assert "{" not in error["message"]
    if helps is not None:
        assert reply.headers["x-should-retry"] == helps
    if code == "1113":
        assert "Retry-After" not in reply.headers
    else:
        wait_s = int(reply.headers["Retry-After"])
        assert reply.headers["x-should-retry"] == ("true" if wait_s <= 7 else "false")
        assert reply.headers["RateLimit"].partition(";")[2] == f"r=0;t={wait_s}"


async def test_short_wait_is_worth_a_retry(client: httpx2.AsyncClient, limit: Limit) -> None:
    await limit(requests_per_minute=20)
    replies = await asyncio.gather(*(post(client) for _ in range(40)))

    refused = [reply for reply in replies if reply.status_code == 429]
    assert {reply.headers["x-should-retry"] for reply in refused} == {"true"}
    assert all(1 <= int(reply.headers["Retry-After"]) <= 3 for reply in refused)


async def test_full_pool_answers_1305(client: httpx2.AsyncClient, house: House) -> None:
    house.intake._settings = house.settings.model_copy(update={"max_wait_seconds": 1e-3})

    reply = await post(client)

    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "1305")
    assert int(reply.headers["Retry-After"]) >= 1


async def test_replay_passes_every_limit(client: httpx2.AsyncClient, limit: Limit) -> None:
    first = await post(client, request_id="mine")
    await limit(requests_per_minute=1, queued=1, prepaid_gpu_seconds=0)

    again = await post(client, request_id="mine")

    assert again.status_code == 200
    assert again.json() == first.json()
    assert (await post(client, request_id="mine", prompt="a dog")).json()["error"]["code"] == "1231"
    assert (await post(client, request_id="new")).json()["error"]["code"] == "1113"


async def test_image_that_is_refused_gives_its_place_back(client: httpx2.AsyncClient, limit: Limit) -> None:
    await limit(in_flight=1, image_intakes=1, gpu_seconds_per_day=1e6)
    for _ in range(3):
        reply = await post(client, image_url="bm90IGFuIGltYWdl")
        assert reply.json()["error"]["code"] == "1214"

    assert (await post(client)).status_code == 200


async def test_reads_have_a_limit_of_their_own(client: httpx2.AsyncClient, limit: Limit) -> None:
    await limit(requests_per_minute=1, reads_per_minute=5)
    task_id = (await post(client)).json()["id"]

    statuses = [(await client.get(f"/async-result/{task_id}")).status_code for _ in range(7)]
    refused = await client.get("/models")

    assert statuses == [200] * 5 + [429] * 2
    assert refused.json()["error"]["code"] == "1302"
    assert 6 <= int(refused.headers["Retry-After"]) <= 12
    assert (await client.delete(f"/async-result/{task_id}")).status_code == 200


async def test_class_is_the_plans_and_a_request_only_lowers_it(client: httpx2.AsyncClient, house: House) -> None:
    async def class_of(**fields: Any) -> int:
        record = await house.store.get((await post(client, **fields)).json()["id"])
        assert record is not None
        return record.job.priority

    assert [await class_of(service_class=name) for name in ("interactive", "standard", "batch")] == [1, 1, 2]
    assert [await class_of(off_peak=value) for value in (True, False, None)] == [2, 1, 1]
    await house.book.put_plan("gold", Terms(service_class="interactive"))
    await house.book.put_tenant("acme", Tenant(plan="gold"))
    house.intake._book._remembered.clear()
    assert [await class_of(), await class_of(service_class="standard")] == [0, 1]
    assert (await post(client, service_class="first")).json()["error"]["code"] == "1214"


async def test_waiting_task_tells_its_place_and_when_it_will_end(client: httpx2.AsyncClient, house: House) -> None:
    ids = [(await post(client)).json()["id"] for _ in range(3)]
    cost_s = (await house.store.place(ids[0])).cost_s  # type: ignore[union-attr]

    told = [(await client.get(f"/async-result/{task_id}")).json() for task_id in ids]

    assert [answer["queue_position"] for answer in told] == [1, 2, 3]
    assert [answer["eta_seconds"] for answer in told] == pytest.approx([cost_s, 2 * cost_s, 3 * cost_s], abs=1)
    claim = await house.store.claim("w", ["tiny"])
    assert claim is not None
    await house.store.finish(claim, Outcome(state=JobState.FAILED, error_code="x"))
    assert "eta_seconds" not in (await client.get(f"/async-result/{ids[0]}")).json()


async def test_a_quota_is_told_with_the_time_of_its_reset(client: httpx2.AsyncClient, limit: Limit) -> None:
    await limit(gpu_seconds_per_day=1e-3)
    reply = await client.post("/videos/generations", json=BODY)

    tomorrow = time.strftime("%Y-%m-%d 00:00:00 UTC", time.gmtime(time.time() + int(reply.headers["Retry-After"])))
    assert reply.json()["error"]["message"] == f"已达到 0.001 GPU 秒/天 的使用上限。您的限额将在 {tomorrow} 重置"
