"""What goes beyond Zhipu's contract, and that clients who know only the contract are not disturbed by it."""

import time
from pathlib import Path

import httpx2
import pytest

from server.app import create_app
from server.deps import House
from server.settings import GatewaySettings
from video_jobs.job import JobState, Outcome, Rendered, VideoFile

BODY = {"model": "cogvideox-2", "prompt": "a cat", "size": "720x480"}


async def create(client: httpx2.AsyncClient) -> str:
    return str((await client.post("/videos/generations", json=BODY)).json()["id"])


async def succeed(house: House, task_id: str, tmp_path: Path) -> VideoFile:
    """What a worker does at the end: two objects, and the outcome."""
    claim = await house.store.claim("worker", ["tiny"])
    assert claim is not None
    assert claim.job_id == task_id
    clip = tmp_path / "clip"
    clip.write_bytes(b"frames")
    video = VideoFile(
        key=f"videos/{task_id}/1/video.mp4", cover_key=f"videos/{task_id}/1/cover.jpg", size_bytes=6, sha256="0"
    )
    for key in (video.key, video.cover_key):
        house.results.put(key, clip, "video/mp4")
    assert await house.store.finish(claim, Outcome(state=JobState.SUCCEEDED, rendered=Rendered(), video=video))
    return video


async def test_a_waiting_task_tells_its_place_and_a_running_one_its_progress(
    client: httpx2.AsyncClient, house: House
) -> None:
    first, second = await create(client), await create(client)
    assert (await client.get(f"/async-result/{second}")).json()["queue_position"] == 2

    await house.store.claim("worker", ["tiny"])

    assert (await client.get(f"/async-result/{first}")).json()["progress"] == 0
    assert (await client.get(f"/async-result/{first}")).json()["eta_seconds"] >= 1
    assert (await client.get(f"/async-result/{second}")).json()["eta_seconds"] >= 1
    assert (await client.get(f"/async-result/{second}")).json()["queue_position"] == 1


async def test_own_tasks_are_listed_newest_first_page_by_page(client: httpx2.AsyncClient, house: House) -> None:
    made = [await create(client) for _ in range(5)]
    other = await house.ring.create("other", "test")

    pages, after = [], ""
    while True:
        page = (await client.get(f"/videos/generations?limit=2&after={after}")).json()
        pages.append([task["id"] for task in page["data"]])
        if not page["has_more"]:
            break
        after = page["last_id"]

    assert pages == [made[:2:-1], made[2:0:-1], made[:1]]
    theirs = await client.get("/videos/generations", headers={"Authorization": f"Bearer {other}"})
    assert theirs.json() == {"object": "list", "data": [], "has_more": False}


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=-1", "after=123", "after=x"])
async def test_a_wrong_page_is_refused(query: str, client: httpx2.AsyncClient) -> None:
    reply = await client.get(f"/videos/generations?{query}")

    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "1214")


async def test_a_waiting_task_is_cancelled_at_once(client: httpx2.AsyncClient) -> None:
    task = await create(client)

    reply = await client.delete(f"/async-result/{task}")

    assert (reply.status_code, reply.json()["task_status"], reply.json()["error"]["code"]) == (200, "FAIL", "1230")
    assert (await client.get(f"/async-result/{task}")).json()["task_status"] == "FAIL"


async def test_a_running_task_is_asked_to_stop(client: httpx2.AsyncClient, house: House) -> None:
    task = await create(client)
    await house.store.claim("worker", ["tiny"])

    reply = await client.delete(f"/async-result/{task}")

    record = await house.store.get(task)
    assert (reply.status_code, reply.json()["task_status"]) == (200, "PROCESSING")
    assert record is not None
    assert record.cancel_asked


async def test_after_its_end_a_task_is_deleted_with_its_video_and_cover(
    client: httpx2.AsyncClient, house: House, tmp_path: Path
) -> None:
    task = await create(client)
    await succeed(house, task, tmp_path)

    reply = await client.delete(f"/async-result/{task}")

    assert (reply.status_code, reply.json()) == (200, {"id": task, "deleted": True})
    assert list(house.results.keys("videos/")) == []
    for again in (await client.get(f"/async-result/{task}"), await client.delete(f"/async-result/{task}")):
        assert (again.status_code, again.json()["error"]["code"]) == (400, "1214")
    assert (await client.get("/videos/generations")).json()["data"] == []


async def test_nobody_cancels_or_deletes_the_task_of_another(client: httpx2.AsyncClient, house: House) -> None:
    task = await create(client)
    other = {"Authorization": f"Bearer {await house.ring.create('other', 'test')}"}

    theirs = await client.delete(f"/async-result/{task}", headers=other)
    nobodys = await client.delete("/async-result/1234567890123456789012345", headers=other)

    assert (theirs.status_code, theirs.content) == (nobodys.status_code, nobodys.content)
    record = await house.store.get(task)
    assert record is not None
    assert record.state is JobState.QUEUED


async def test_models_are_listed_with_what_they_take(client: httpx2.AsyncClient) -> None:
    models = {model["id"]: model for model in (await client.get("/models")).json()["data"]}

    assert set(models) == {"cogvideox-2", "cogvideox-3", "cogvideox-flash", "cogvideox"}
    assert "720x480" in models["cogvideox-2"]["sizes"]
    assert models["cogvideox-flash"]["ignores"] == ["quality", "size", "fps"]


async def test_strict_mode_has_only_what_the_hosted_api_has(redis_url: str, tmp_path: Path) -> None:
    app = create_app(GatewaySettings(redis_url=redis_url, state=tmp_path, strict=True))
    async with app.router.lifespan_context(app):
        key = await app.state.house.ring.create("acme", "test")
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        base, headers = "http://gateway.test/api/paas/v4", {"Authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(transport=transport, base_url=base, headers=headers) as client:
            task = await create(client)
            shown = (await client.get(f"/async-result/{task}")).json()
            missing = [
                await client.get("/models"),
                await client.get("/videos/generations"),
                await client.delete(f"/async-result/{task}"),
            ]

    assert set(shown) == {"model", "id", "request_id", "task_status"}
    assert [reply.status_code for reply in missing] == [404, 405, 405]


async def test_end_is_predicted_until_the_pace_tells(client: httpx2.AsyncClient, house: House) -> None:
    task = await create(client)
    claim = await house.store.claim("worker", ["tiny"])
    assert claim is not None
    record = await house.store.get(task)
    assert record is not None
    predicted = house.intake.seconds_left(record)
    halfway = record.model_copy(update={"progress": 0.5})
    started_ms = round((time.time() - 30) * 1000)
    alone = halfway.model_copy(update={"attempts": (record.attempts[0].model_copy(update={"started_ms": started_ms}),)})
    resumed = alone.model_copy(update={"attempts": alone.attempts * 2})

    assert predicted > 1
    assert house.intake.seconds_left(alone) == pytest.approx(30, abs=2), "half took 30 s, so the rest takes 30"
    assert house.intake.seconds_left(resumed) == pytest.approx(predicted / 2)


async def test_strict_gateway_knows_none_of_our_fields(redis_url: str, tmp_path: Path) -> None:
    odd = {"seed": "seven", "service_class": 5}
    for strict in (False, True):
        app = create_app(GatewaySettings(redis_url=redis_url, state=tmp_path, strict=strict))
        async with app.router.lifespan_context(app):
            headers = {"Authorization": await app.state.house.ring.create("acme", "test")}
            transport = httpx2.ASGITransport(app=app)
            async with httpx2.AsyncClient(transport=transport, headers=headers) as client:
                reply = await client.post("http://g/api/paas/v4/videos/generations", json=BODY | odd)
                assert reply.status_code == (200 if strict else 400)
