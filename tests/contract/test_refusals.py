"""Every refusal has the contract's shape, the right code and status, and leaves nothing behind."""

import base64
import json
from typing import Any

import httpx2
import pytest

from server.deps import House
from video_jobs import keys

OK = {"model": "cogvideox-2", "prompt": "a cat"}


def assert_shape(reply: httpx2.Response, status: int, code: str) -> None:
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (status, code), reply.text
    assert error["message"]
    assert "x-should-retry" in reply.headers


@pytest.mark.parametrize(
    ("change", "code", "names"),
    [
        ({"model": None}, "1213", "model"),
        ({"model": "gpt"}, "1211", ""),
        ({"prompt": None}, "1213", "prompt"),
        ({"prompt": "x" * 513}, "1261", ""),
        ({"prompt": "a\0b"}, "1214", "prompt"),
        ({"prompt": 5}, "1210", "prompt"),
        ({"size": "10x10"}, "1214", "size"),
        ({"size": "1280x720"}, "1214", "size"),
        ({"fps": 24}, "1214", "fps"),
        ({"fps": "30"}, "1210", "fps"),
        ({"fps": True}, "1210", "fps"),
        ({"duration": 7}, "1214", "duration"),
        ({"quality": "best"}, "1214", "quality"),
        ({"with_audio": "yes"}, "1210", "with_audio"),
        ({"user_id": "u"}, "1214", "user_id"),
        ({"user_id": "u" * 129}, "1214", "user_id"),
        ({"seed": -1}, "1214", "seed"),
        ({"seed": 2**32}, "1214", "seed"),
        ({"seed": 10**4000}, "1214", "seed"),
        ({"image_url": ["a", "b"]}, "1214", "image_url"),
        ({"image_url": {}}, "1214", "image_url"),
        ({"image_url": 5}, "1214", "image_url"),
        ({"image_url": "!!!"}, "1214", "image_url"),
        ({"image_url": base64.b64encode(b"GIF89a" * 9).decode()}, "1214", "image_url"),
        ({"image_url": base64.b64encode(b"x" * 5_500_000).decode()}, "1214", "image_url"),
        ({"image_url": "http://127.0.0.1/a.png"}, "1214", "image_url"),
        ({"image_url": "http://[::ffff:169.254.169.254]/"}, "1214", "image_url"),
        ({"image_url": "http://user@93.184.216.34/"}, "1214", "image_url"),
    ],
)
async def test_bad_field_is_named_and_costs_nothing(
    client: httpx2.AsyncClient, house: House, change: dict[str, Any], code: str, names: str
) -> None:
    reply = await client.post("/videos/generations", json=OK | change)

    assert_shape(reply, reply.status_code, code)
    assert reply.status_code in (400, 413)
    assert names in reply.json()["error"]["message"]
    assert await house.redis.zcard(keys.waiting("1:tiny")) == 0


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"garbage", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"model":"a","model":"b"}', b"[" * 100_000),
        *(b'{"fps":NaN}', b'{"prompt":"\\ud800","model":"cogvideox-2"}', b'{"fps":1e999,"model":"cogvideox-2"}'),
        b'{"seed":' + b"9" * 10_000 + b"}",
        *(
            b'{"%b":"\\ud800-half","prompt":"a","model":"cogvideox-2"}' % name
            for name in (b"size", b"request_id", b"user_id", b"image_url", b"quality", b"service_class")
        ),
    ],
)
async def test_bad_json_is_a_clear_refusal(client: httpx2.AsyncClient, content: bytes) -> None:
    reply = await client.post("/videos/generations", content=content, headers={"Content-Type": "text/plain"})

    assert reply.status_code == 400
    assert reply.json()["error"]["code"] in ("1210", "1213", "1214")


@pytest.mark.parametrize("half", ["\\ud800", "\\uDFFF", "\\uD83Dx", "\\ude00\\ud83d"])
@pytest.mark.parametrize("field", ["prompt", "request_id", "user_id", "image_url", "size", "style", "model"])
async def test_half_a_letter_is_no_json_wherever_it_stands(client: httpx2.AsyncClient, field: str, half: str) -> None:
    fields = {name: text for name, text in OK.items() if name != field}
    content = json.dumps(fields)[:-1] + f', "{field}": "user-1{half}"}}'

    assert_shape(await client.post("/videos/generations", content=content.encode()), 400, "1210")


async def test_letter_written_in_two_halves_is_whole(client: httpx2.AsyncClient) -> None:
    content = json.dumps(OK | {"request_id": "😀", "user_id": "user-😀"}, ensure_ascii=True)
    reply = await client.post("/videos/generations", content=content.encode())

    assert reply.json()["request_id"] == "😀"


@pytest.mark.parametrize("field", ["style", "image_url"])
async def test_nesting_of_any_depth_is_a_refusal_and_no_fault_of_ours(client: httpx2.AsyncClient, field: str) -> None:
    """Large bodies are read on a thread of their own, whose stack is emptier than ours."""
    for depth in range(800, 1001, 20):
        nested = b'{"model":"cogvideox-2","prompt":"a cat","pad":"%b","%b":%b%b}' % (
            *(b" " * 300_000, field.encode(), b"[" * depth, b"]" * depth),
        )
        reply = await client.post("/videos/generations", content=nested)

        assert reply.status_code == 200 or reply.json()["error"]["code"] in ("1210", "1214"), (depth, reply.text)


async def test_eight_megabytes_are_too_many_declared_or_not(client: httpx2.AsyncClient) -> None:
    async def chunks() -> Any:
        for _ in range(8):
            yield b" " * 2**20

    for content in (b" " * 2**23, chunks()):
        assert_shape(await client.post("/videos/generations", content=content), 413, "1210")


async def test_unknown_path_and_method_answer_in_the_same_shape(client: httpx2.AsyncClient) -> None:
    assert_shape(await client.get("/nothing"), 404, "1222")
    assert_shape(await client.put("/videos/generations"), 405, "1212")
    assert_shape(await client.post("/videos/generations/"), 404, "1222")


async def test_unknown_and_foreign_tasks_answer_alike(client: httpx2.AsyncClient, house: House) -> None:
    mine = (await client.post("/videos/generations", json=OK)).json()["id"]
    foreign = await house.ring.create("globex", "other")

    answers = [
        await client.get(f"/async-result/{mine}", headers={"Authorization": foreign}),
        *[await client.get(f"/async-result/{task}") for task in ("1" * 25, "abc", "١٢٣", "%00", "9" * 300)],
    ]

    assert {(answer.status_code, answer.text) for answer in answers} == {(400, answers[0].text)}
    assert_shape(answers[0], 400, "1214")


async def test_english_is_answered_to_who_asks(client: httpx2.AsyncClient) -> None:
    chinese = await client.post("/videos/generations", json=OK | {"fps": 24})
    english = await client.post("/videos/generations", json=OK | {"fps": 24}, headers={"Accept-Language": "en-US,en"})

    assert chinese.json()["error"]["message"] == "fps 参数非法。请检查文档：30, 60"
    assert "参数" in chinese.text
    assert english.json()["error"]["message"] == "Invalid fps parameter. Please check the documentation: 30, 60"


async def test_lost_master_key_is_an_error_of_ours_and_tells_nothing(client: httpx2.AsyncClient, house: House) -> None:
    from server.keys import KeyRing

    house.ring = KeyRing(house.redis, b"x" * 32)
    reply = await client.get("/async-result/1")

    assert_shape(reply, 500, "500")
