"""Each field, per model code: what is taken, what is refused and what stands where nothing was sent."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from server.app import create_app
from server.deps import House
from server.offer import OfferEmpty, image_size, offers
from server.settings import GatewaySettings
from tests.contract.test_bodies import png, submitted
from tests.contract.test_refusals import OK, assert_shape
from video_jobs import keys
from video_jobs.catalogue import load_catalogue
from video_jobs.job import ImageRef

TWO = ["720x480", "1024x1024", "1280x960", "960x1280", "1920x1080", "1080x1920", "2048x1080", "3840x2160"]
THREE = ["1280x720", "720x1280", "1024x1024", "1920x1080", "1080x1920", "2048x1080", "3840x2160"]
SIZES = {"cogvideox-2": TWO, "cogvideox": TWO, "cogvideox-3": THREE}


async def said(client: httpx2.AsyncClient, **body: Any) -> tuple[int, str, str]:
    """Status, code and message, in English."""
    reply = await client.post("/videos/generations", json=OK | body, headers={"Accept-Language": "en"})
    error = reply.json().get("error", {"code": "", "message": ""})
    return reply.status_code, error["code"], error["message"]


@pytest.mark.parametrize("model", SIZES)
async def test_each_model_takes_its_own_sizes_and_names_them(
    client: httpx2.AsyncClient, house: House, model: str
) -> None:
    for size in sorted({*TWO, *THREE, "1x1", "1920X1080", "1920*1080", " 1920x1080", "1080p"}):
        status, code, message = await said(client, model=model, size=size)
        if size in SIZES[model]:
            assert status == 200, size
        else:
            assert (status, code) == (400, "1214"), size
            assert message.endswith(
                f"Invalid size parameter. Please check the documentation: {', '.join(SIZES[model])}"
            )
    for size in SIZES[model]:
        record = await submitted(client, house, model=model, prompt="a cat", size=size)
        assert f"{record.job.spec.width}x{record.job.spec.height}" == size


@pytest.mark.parametrize("model", [*SIZES, "cogvideox-flash"])
async def test_defaults_stand_where_nothing_was_sent(client: httpx2.AsyncClient, house: House, model: str) -> None:
    spec = (await submitted(client, house, model=model, prompt="a cat")).job.spec

    assert (spec.width, spec.height, spec.fps, spec.duration_s, spec.quality) == (1920, 1080, 30, 5, "speed")
    assert (spec.with_audio, spec.watermark, spec.image) == (False, False, None)
    assert 0 <= spec.seed < 2**32


async def test_flash_honours_duration_and_ignores_the_other_three(client: httpx2.AsyncClient, house: House) -> None:
    asked = {"quality": "quality", "size": "720x480", "fps": 60, "duration": 10, "seed": 7}
    spec = (await submitted(client, house, model="cogvideox-flash", prompt="a cat", **asked)).job.spec

    assert (spec.width, spec.height, spec.fps, spec.quality) == (1920, 1080, 30, "speed")
    assert (spec.duration_s, spec.seed) == (10, 7)
    assert (await said(client, model="cogvideox-flash", duration=7))[:2] == (400, "1214")
    assert (await said(client, model="cogvideox-flash", fps="fast"))[:2] == (400, "1210"), "its type is checked"


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("fps", ["30", "30.0", "3e1", "60"], ['"30"', "true", "30.5", "[30]", "{}", "1e999"]),
        ("duration", ["5", "5.0", "10"], ['"5"', "false", "5.1", "[5]"]),
        ("seed", ["0", "-0.0", "7.0", "4294967295"], ['"0"', "true", "0.5", "[0]"]),
        ("with_audio", ["true", "false"], ["1", "0", '"true"', '"false"', "[]", "1.0"]),
        ("watermark_enabled", ["true", "false"], ["1", "0", '"true"', "{}"]),
        ("quality", ['"speed"', '"quality"'], ["1", "true", '["speed"]', "{}"]),
        ("size", ['"720x480"'], ["720", "true", '["720x480"]', '{"w":1}']),
        ("prompt", ['"x"', '"一只猫"'], ["5", "true", '["a cat"]', "{}"]),
        ("request_id", ['"r"'], ["5", "true", '["r"]', "{}"]),
        ("user_id", ['"user_1"'], ["100000", "true", '["user_1"]', "{}"]),
        ("model", ['"cogvideox-2"'], ["2", "true", '["cogvideox-2"]']),
    ],
)
async def test_wrong_type_is_judged_by_the_written_rule(
    client: httpx2.AsyncClient, field: str, good: list[str], bad: list[str]
) -> None:
    async def sent(value: str) -> httpx2.Response:
        rest = {name: text for name, text in OK.items() if name != field}
        content = json.dumps(rest)[:-1] + f', "{field}": {value}}}'
        return await client.post("/videos/generations", content=content.encode())

    for value in good:
        assert (await sent(value)).status_code == 200, value
    assert (await sent("null")).status_code == (400 if field in OK else 200)
    for value in bad:
        reply = await sent(value)
        assert_shape(reply, 400, "1210")
        assert field in reply.json()["error"]["message"], value


async def test_code_points_are_counted_not_bytes(client: httpx2.AsyncClient) -> None:
    assert (await said(client, prompt="猫" * 512))[0] == (await said(client, prompt="😀" * 512))[0] == 200
    assert (await said(client, prompt="😀" * 513))[:2] == (400, "1261")
    for length, status in ((5, 400), (6, 200), (128, 200), (129, 400)):
        assert (await said(client, user_id="😀" * length))[0] == status
    assert (await said(client, user_id=""))[:2] == (400, "1214")


async def test_fields_that_we_do_not_know_are_ignored(client: httpx2.AsyncClient) -> None:
    unknown = {
        "sensitive_word_check": {"type": "ALL", "status": "DISABLE"},
        **{"style": "general", "aspect_ratio": "16:9", "off_peak": True, "movement_amplitude": "auto"},
        **{"prompt_opt_model": "x", "id": 5, "n": None, "__proto__": {}, "": 1, "tenant": "globex"},
    }
    assert (await said(client, **unknown))[0] == 200
    assert (await said(client, sensitive_word_check="ALL"))[0] == 200


@pytest.mark.parametrize(
    "image", [[], [None], [""], [[png().hex()]], {}, {"url": None}, {"url": ["x"]}, {"URL": "x"}, 5, True]
)
async def test_image_in_no_known_form_is_refused(client: httpx2.AsyncClient, image: Any) -> None:
    status, code, message = await said(client, image_url=image)

    assert (status, code) == (400, "1214")
    assert "image_url" in message


async def test_last_frame_is_refused_by_name_where_no_model_takes_one(client: httpx2.AsyncClient) -> None:
    picture = base64.b64encode(png()).decode()
    for model in ("cogvideox-2", "cogvideox-3"):
        status, code, message = await said(client, model=model, image_url=[picture, picture])
        assert (status, code) == (400, "1214")
        assert message.startswith("Invalid image_url parameter")


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        *((400, 300, (1440, 1080)), (300, 400, (1080, 1440)), (512, 512, (1080, 1080)), (1000, 667, (1620, 1080))),
        *((16, 8192, (1080, 3840)), (8192, 16, (3840, 1080)), (3, 2, (1620, 1080)), (1, 1, (1080, 1080))),
    ],
)
def test_size_follows_the_image(width: int, height: int, expected: tuple[int, int]) -> None:
    assert image_size(ImageRef(key="", sha256="", width=width, height=height), 3840 * 2160) == expected


@pytest.mark.parametrize("most", ["720x480", "1280x720", "1920x1080"])
@pytest.mark.parametrize("shape", [(4, 3), (16, 9), (9, 16), (1, 1), (8192, 17), (997, 991)])
def test_size_from_an_image_never_outgrows_the_largest(most: str, shape: tuple[int, int]) -> None:
    width, height = map(int, most.split("x"))
    got = image_size(ImageRef(key="", sha256="", width=shape[0], height=shape[1]), width * height)

    assert got[0] * got[1] <= width * height
    assert got[0] % 2 == got[1] % 2 == 0
    if max(shape) < 1000:
        assert got[0] / got[1] == pytest.approx(shape[0] / shape[1], rel=0.01)


@asynccontextmanager
async def gateway(redis_url: str, state: Path, **changed: Any) -> AsyncIterator[tuple[httpx2.AsyncClient, House]]:
    app = create_app(GatewaySettings(redis_url=redis_url, state=state, **changed))
    async with app.router.lifespan_context(app):
        key = await app.state.house.ring.create("acme", "test")
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        base, headers = "http://gateway.test/api/paas/v4", {"Authorization": key}
        async with httpx2.AsyncClient(transport=transport, base_url=base, headers=headers) as client:
            yield client, app.state.house


async def test_operator_switches_off_what_the_hardware_cannot_do(redis_url: str, tmp_path: Path) -> None:
    small = {"max_size": "1280x720", "max_duration": 5, "offer_audio": False}
    async with gateway(redis_url, tmp_path, **small) as (client, house):
        refusals = {
            "size": await said(client, size="1920x1080"),
            "duration": await said(client, duration=10),
            "with_audio": await said(client, with_audio=True),
        }
        assert await house.redis.zcard(keys.waiting("1:tiny")) == 0, "nothing was queued"
        assert (await said(client, size="720x480", duration=5, with_audio=False))[0] == 200
        text = (await submitted(client, house, prompt="a cat")).job.spec
        flash = (await submitted(client, house, model="cogvideox-flash", prompt="a cat", size="3840x2160")).job.spec
        image = (await submitted(client, house, image_url=base64.b64encode(png()).decode())).job.spec
        shown = {model["id"]: model for model in (await client.get("/models")).json()["data"]}

    assert {field: answer[:2] for field, answer in refusals.items()} == dict.fromkeys(refusals, (400, "1214"))
    for field, allowed in {"size": "720x480", "duration": "5", "with_audio": "false"}.items():
        assert refusals[field][2] == f"Invalid {field} parameter. Please check the documentation: {allowed}"
    assert {(spec.width, spec.height) for spec in (text, flash)} == {(720, 480)}
    assert image.width * image.height <= 1280 * 720
    assert image.width == pytest.approx(2 * image.height, abs=4)
    assert (shown["cogvideox-2"]["sizes"], shown["cogvideox-2"]["default_size"]) == (["720x480"], "720x480")
    assert (shown["cogvideox-3"]["sizes"], shown["cogvideox-3"]["durations"]) == (["1280x720", "720x1280"], [5])
    assert {model["audio"] for model in shown.values()} == {False}


def test_settings_that_leave_nothing_to_offer_are_told_at_the_start(tmp_path: Path) -> None:
    for changed in ({"max_size": "64x64"}, {"max_duration": 4}):
        with pytest.raises(OfferEmpty, match="cogvideox-2"):
            offers(load_catalogue(), GatewaySettings(state=tmp_path, **changed))


def test_what_stands_where_no_size_was_sent_is_a_size_that_is_offered(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('[models.ours]\nsizes = ["1280x720", "720x480"]\n')

    found = offers(load_catalogue(tmp_path / "own.toml"), GatewaySettings(state=tmp_path))["ours"]

    assert found.default_size == "1280x720", "the word's own default, 1920x1080, is none of its sizes"


async def test_operators_own_model_code_has_its_own_rules(redis_url: str, tmp_path: Path) -> None:
    extra = tmp_path / "catalogue.toml"
    extra.write_text(
        '[models.house-video]\nsizes = ["1280x720"]\ndefault_size = "1280x720"\nfps = [30]\ndurations = [5]\n'
    )
    async with gateway(redis_url, tmp_path, catalogue=extra) as (client, house):
        spec = (await submitted(client, house, model="house-video", prompt="a cat")).job.spec
        assert (await said(client, model="house-video", fps=60))[:2] == (400, "1214")
        assert (await said(client, model="house-video", duration=10))[:2] == (400, "1214")
        assert "house-video" in [model["id"] for model in (await client.get("/models")).json()["data"]]

    assert (spec.model, spec.width, spec.height, spec.fps) == ("house-video", 1280, 720, 30)


async def test_text_only_checkpoint_refuses_images_by_name(redis_url: str, tmp_path: Path) -> None:
    async with gateway(redis_url, tmp_path, checkpoint="cogvideox-2b") as (client, _):
        picture = base64.b64encode(png()).decode()
        assert (await said(client, image_url=picture))[:2] == (400, "1214")
        assert (await said(client, duration=10))[:2] == (400, "1214"), "and it has 49 frames only"
        assert (await said(client))[0] == 200


async def test_nothing_sent_comes_back_as_markup(client: httpx2.AsyncClient) -> None:
    odd = '<script>alert("1")</script>\u2028&amp;'
    made = await client.post("/videos/generations", json=OK | {"request_id": odd})
    refused = await client.post("/videos/generations", json=OK | {"request_id": odd, "prompt": "another"})

    assert made.json()["request_id"] == odd, "to a JSON parser it is what was sent"
    assert odd in refused.json()["error"]["message"]
    for reply in (made, refused):
        assert "<" not in reply.text
        assert "\u2028" not in reply.text
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert odd.encode() not in b"".join(value for _, value in reply.headers.raw)


async def test_an_adapter_is_a_model_code_where_its_checkpoint_is_served(redis_url: str, tmp_path: Path) -> None:
    extra = tmp_path / "catalogue.toml"
    table = '[models."cogvideox-2:{name}"]\nlike = "cogvideox-2"\n'
    lora = 'lora = {{ checkpoint = "{checkpoint}", file = "a.safetensors", sha256 = "' + "a" * 64 + '" }}\n'
    entries = {"interior": "tiny", "elsewhere": "cogvideox-1.5-5b"}
    extra.write_text("".join((table + lora).format(name=name, checkpoint=at) for name, at in entries.items()))
    async with gateway(redis_url, tmp_path, catalogue=extra) as (client, house):
        job = (await submitted(client, house, model="cogvideox-2:interior", prompt="a cat")).job
        assert (await said(client, model="cogvideox-2:elsewhere", prompt="a cat"))[:2] == (400, "1211")

    assert (job.spec.model, job.plan.adapter, job.plan.adapter_sha256) == (*["cogvideox-2:interior"] * 2, "a" * 64)
