"""Requests as the SDKs really send them, and what comes back."""

import asyncio
import base64
import io
import json
from typing import Any

import httpx2
import pytest
from PIL import Image

from server.deps import House
from video_jobs.job import JobRecord, JobState, Outcome, Quality, VideoFile

MINIMAL = (
    '{"model":"cogvideox-2","prompt":"a cat","image_url":null,"request_id":null,"user_id":null,"quality":null,'
    '"with_audio":null,"size":null,"duration":null,"fps":null}'
)
WHOLE = (
    '{"model":"cogvideox-2","prompt":"一只猫在弹钢琴, a cat","image_url":null,'
    '"sensitive_word_check":{"type":"ALL","status":"DISABLE"},"request_id":"req-123456","user_id":"user_1",'
    '"quality":"quality","with_audio":true,"size":"1920x1080","duration":5,"fps":30}'
)
ZAI = (
    '{"model":"cogvideox-3","prompt":"一只猫在弹钢琴, a cat","image_url":null,"quality":"quality","with_audio":true,'
    '"size":"1920x1080","duration":5,"fps":30,"style":"general","aspect_ratio":"16:9","off_peak":false,'
    '"movement_amplitude":"auto","sensitive_word_check":{"type":"ALL","status":"DISABLE"},'
    '"request_id":"req-123456","user_id":"user_1","watermark_enabled":true}'
)


def png(width: int = 40, height: int = 20) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(out, "PNG")
    return out.getvalue()


async def submitted(client: httpx2.AsyncClient, house: House, **body: Any) -> JobRecord:
    reply = await client.post("/videos/generations", json={"model": "cogvideox-2", **body})
    assert reply.status_code == 200, reply.text
    record = await house.store.get(reply.json()["id"])
    assert record is not None
    return record


@pytest.mark.parametrize("body", [MINIMAL, WHOLE, ZAI], ids=["minimal", "whole", "zai"])
async def test_captured_body_is_accepted_and_answered_as_documented(client: httpx2.AsyncClient, body: str) -> None:
    reply = await client.post("/videos/generations", content=body.encode())

    answer = reply.json()
    assert reply.status_code == 200
    assert set(answer) == {"model", "id", "request_id", "task_status"}
    assert answer["task_status"] == "PROCESSING"
    assert len(answer["id"]) == 25
    assert answer["id"].isdigit()
    assert answer["request_id"] == (json.loads(body)["request_id"] or answer["request_id"])


async def test_spec_holds_what_was_asked(client: httpx2.AsyncClient, house: House) -> None:
    record = await submitted(client, house, prompt="a cat", size="720x480", fps=60, duration=10, quality="quality")

    spec, plan = record.job.spec, record.job.plan
    assert (spec.width, spec.height, spec.fps, spec.duration_s, spec.quality) == (720, 480, 60, 10, Quality.QUALITY)
    assert (plan.out_frames, plan.num_frames, plan.steps) == (600, 161, 50)
    assert record.job.tenant == "acme"


async def test_flash_ignores_quality_size_and_fps(client: httpx2.AsyncClient, house: House) -> None:
    record = await submitted(client, house, model="cogvideox-flash", prompt="x", quality="best", size="1x1", fps=7)

    assert (record.job.spec.width, record.job.spec.fps) == (1920, 30)


@pytest.mark.parametrize(
    "wrap", [lambda b: b, lambda b: f"data:image/png;base64, {b}", lambda b: [b], lambda b: {"url": b}]
)
async def test_image_comes_in_every_known_form(client: httpx2.AsyncClient, house: House, wrap: Any) -> None:
    record = await submitted(client, house, image_url=wrap(base64.b64encode(png()).decode()))

    image = record.job.spec.image
    assert image is not None
    assert (image.width, image.height) == (40, 20)
    assert (record.job.spec.width, record.job.spec.height) == (2160, 1080)
    assert house.results.path(image.key).is_file()


async def test_result_reads_processing_then_success_with_links_that_open(
    client: httpx2.AsyncClient, house: House, tmp_path: Any
) -> None:
    record = await submitted(client, house, prompt="a cat")
    waiting = (await client.get(f"/async-result/{record.job.id}")).json()
    assert (waiting["task_status"], waiting["id"], "video_result" in waiting) == ("PROCESSING", record.job.id, False)

    clip = tmp_path / "clip"
    clip.write_bytes(bytes(range(256)))
    for name in ("video.mp4", "cover.jpg"):
        house.results.put(f"videos/1/{name}", clip, "")
    claim = await house.store.claim("w", ["tiny"])
    assert claim is not None
    video = VideoFile(key="videos/1/video.mp4", cover_key="videos/1/cover.jpg", size_bytes=256, sha256="")
    assert await house.store.finish(claim, Outcome(state=JobState.SUCCEEDED, video=video))

    done = (await client.get(f"/async-result/{record.job.id}")).json()
    assert done["task_status"] == "SUCCESS"
    links = done["video_result"][0]
    transport = httpx2.ASGITransport(app=house.app)  # type: ignore[attr-defined]
    async with httpx2.AsyncClient(transport=transport) as anybody:
        whole = await anybody.get(links["url"])
        part = await anybody.get(links["url"], headers={"Range": "bytes=10-19"})
        cover = await anybody.head(links["cover_image_url"])
        forged = await anybody.get(links["url"].replace("video.mp4", "cover.jpg"))
    assert (whole.status_code, whole.headers["content-type"], len(whole.content)) == (200, "video/mp4", 256)
    assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
    assert (cover.status_code, cover.headers["content-type"], forged.status_code) == (200, "image/jpeg", 403)


async def test_cancelled_job_reads_fail_with_a_code_of_its_own(client: httpx2.AsyncClient, house: House) -> None:
    record = await submitted(client, house, prompt="a cat")
    await house.store.cancel("acme", record.job.id)

    reply = await client.get(f"/async-result/{record.job.id}")
    assert (reply.status_code, reply.json()["task_status"]) == (200, "FAIL")
    assert reply.json()["error"] == {"code": "1230", "message": "任务已取消"}


async def test_same_request_id_replays_and_another_body_is_refused(client: httpx2.AsyncClient) -> None:
    body = {"model": "cogvideox-2", "prompt": "a cat", "request_id": "r-1"}
    copies = await asyncio.gather(*(client.post("/videos/generations", json=body) for _ in range(20)))
    other = await client.post("/videos/generations", json=body | {"prompt": "a dog"})

    assert {reply.status_code for reply in copies} == {200}
    assert len({reply.json()["id"] for reply in copies}) == 1
    assert (other.status_code, other.json()["error"]["code"]) == (400, "1231")


async def test_request_that_is_cancelled_midway_gives_its_request_id_back(
    client: httpx2.AsyncClient, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def fetch_forever(*_: Any) -> None:
        begun.set()
        await asyncio.sleep(3600)

    monkeypatch.setattr(house.images, "take", fetch_forever)
    body = {"model": "cogvideox-2", "image_url": base64.b64encode(png()).decode(), "request_id": "r-2"}
    midway = asyncio.create_task(client.post("/videos/generations", json=body))
    await begun.wait()
    midway.cancel()
    await asyncio.gather(midway, return_exceptions=True)
    monkeypatch.undo()

    async with asyncio.timeout(10):
        assert (await client.post("/videos/generations", json=body)).status_code == 200


async def test_prompt_of_unknown_letters_is_refused_before_it_costs(client: httpx2.AsyncClient, house: House) -> None:
    await house.intake._registry.announce("w", ["tiny"], "abcdefghijklmnopqrstuvwxyz ")

    reply = await client.post("/videos/generations", json={"model": "cogvideox-2", "prompt": "一只猫在弹钢琴"})
    fine = await client.post("/videos/generations", json={"model": "cogvideox-2", "prompt": "a cat plays 钢琴"})
    wide = await client.post("/videos/generations", json={"model": "cogvideox-2", "prompt": "ａ　ｃａｔ"})

    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "1214")
    assert "prompt" in reply.json()["error"]["message"]
    assert fine.status_code == wide.status_code == 200
