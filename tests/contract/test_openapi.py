"""`/openapi.json` names what is served, no more and no less, and its examples are true."""

from typing import Any

import httpx2
import jsonschema_rs
import pytest

from server.deps import House
from server.zhipu.openapi import document
from tests.contract.test_bodies import submitted
from tests.contract.test_fields import gateway
from tests.contract.test_refusals import OK
from video_jobs.errors import ContentRefused
from video_jobs.job import JobState, Outcome, VideoFile

API = "/api/paas/v4"


async def described(client: httpx2.AsyncClient) -> dict[str, Any]:
    reply = await client.get("http://gateway.test/openapi.json", headers={"Authorization": ""})
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
    read: dict[str, Any] = reply.json()
    return read


def fits(whole: dict[str, Any], schema: dict[str, Any], value: Any) -> bool:
    return jsonschema_rs.validator_for({**schema, "components": whole["components"]}).is_valid(value)


def served(house: House) -> set[tuple[str, str]]:
    """As the framework knows its own routes."""
    known = house.app.openapi()["paths"]  # type: ignore[attr-defined]
    pairs = {(method, path.replace("task_id", "id")) for path, item in known.items() for method in item}
    return pairs - {("head", "/files/{key}")}


def told(whole: dict[str, Any]) -> set[tuple[str, str]]:
    return {(method, path) for path, item in whole["paths"].items() for method in item}


# Links are answered to HEAD by the same function.
@pytest.mark.filterwarnings("ignore:Duplicate Operation ID")
async def test_every_route_is_described_and_nothing_else(client: httpx2.AsyncClient, house: House) -> None:
    assert told(await described(client)) == served(house)


async def test_strict_gateway_describes_the_hosted_api_only(redis_url: str, tmp_path: Any) -> None:
    async with gateway(redis_url, tmp_path, strict=True) as (client, _):
        whole = await described(client)

    assert {pair for pair in told(whole) if pair[1].startswith(API)} == {
        ("post", f"{API}/videos/generations"),
        ("get", f"{API}/async-result/{{id}}"),
    }
    assert not {"Page", "Deleted", "Models"} & set(whole["components"]["schemas"])
    assert not {word for word in ("eta_seconds", "seed", "service_class") if word in str(whole)}


async def test_request_examples_are_accepted_as_they_stand(client: httpx2.AsyncClient) -> None:
    whole = await described(client)
    body = whole["paths"][f"{API}/videos/generations"]["post"]["requestBody"]["content"]["application/json"]
    for name, example in body["examples"].items():
        assert fits(whole, body["schema"], example["value"]), name
        reply = await client.post("/videos/generations", json=example["value"])
        assert reply.status_code == 200, (name, reply.text)
    assert len(body["examples"]) == 3 * len(whole["components"]["schemas"]["GenerationRequest"]["oneOf"])


async def test_answer_examples_fit_their_schemas(client: httpx2.AsyncClient) -> None:
    whole = await described(client)
    seen = 0
    for path, item in whole["paths"].items():
        for method, operation in item.items():
            for status, answer in operation["responses"].items():
                for media in answer.get("content", {}).values():
                    values = [example["value"] for example in media.get("examples", {}).values()]
                    values += [media["example"]] if "example" in media else []
                    seen += len(values)
                    assert all(fits(whole, media["schema"], value) for value in values), (path, method, status)
    assert seen > 50


@pytest.mark.parametrize("end", [None, "done", "failed", "refused", "cancelled"])
async def test_result_in_every_state_fits(client: httpx2.AsyncClient, house: House, end: str | None) -> None:
    task = (await submitted(client, house, prompt="a cat")).job.id
    if end == "cancelled":
        await client.delete(f"/async-result/{task}")
    elif end:
        claim = await house.store.claim("w", ["tiny"])
        assert claim is not None
        video = VideoFile(key="videos/1/video.mp4", cover_key="videos/1/cover.jpg", size_bytes=1, sha256="")
        code = ContentRefused.code if end == "refused" else "engine_died"
        failed = Outcome(state=JobState.FAILED, error_code=code, error_message="it ended")
        await house.store.finish(claim, Outcome(state=JobState.SUCCEEDED, video=video) if end == "done" else failed)
    whole = await described(client)
    result, page = {"$ref": "#/components/schemas/Result"}, {"$ref": "#/components/schemas/Page"}

    assert fits(whole, result, (await client.get(f"/async-result/{task}")).json())
    assert fits(whole, page, (await client.get("/videos/generations")).json())
    assert not fits(whole, result, {"task_status": "SUCCESS"}), "and the schema does not fit everything"


async def test_what_the_schema_forbids_is_refused_and_what_it_allows_is_taken(
    client: httpx2.AsyncClient, house: House
) -> None:
    whole = document(house)
    schema = {"$ref": "#/components/schemas/GenerationRequest"}
    bodies: list[dict[str, Any]] = [
        *({}, {"prompt": None}, {"prompt": "x" * 513}, {"prompt": "a\x07"}, {"prompt": "a\n\tb"}, {"model": "gpt"}),
        *(
            {"fps": 30.0},
            {"fps": 24},
            {"fps": "30"},
            {"fps": None},
            {"seed": 2**32},
            {"seed": 2**32 - 1},
            {"seed": True},
        ),
        *({"size": "720x480"}, {"size": "1280x720"}, {"model": "cogvideox-3", "size": "1280x720"}, {"size": ""}),
        *({"model": "cogvideox-flash", "size": "any"}, {"model": "cogvideox-flash", "size": 5}, {"with_audio": 1}),
        *({"user_id": "u" * 5}, {"user_id": "u" * 6}, {"request_id": ""}, {"style": [1]}, {"watermark_enabled": True}),
        *({"image_url": []}, {"image_url": {"url": None}}, {"image_url": ["x", "y"]}, {"image_url": 5}),
    ]
    for change in bodies:
        taken = (await client.post("/videos/generations", json=OK | change)).status_code == 200
        assert fits(whole, schema, OK | change) is taken, change
