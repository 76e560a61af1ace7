"""The limits hold on the wire, under load and under attack. `make prove-limits` does the same at full size."""

import asyncio
import json
from pathlib import Path

import pytest

from server.settings import MEBIBYTE
from tests.gateway import Gateway
from tests.integration.gateway import load

LIMIT = 7 * MEBIBYTE


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
@pytest.mark.parametrize(("size", "status"), [(LIMIT - 1, 200), (LIMIT, 200), (LIMIT + 1, 413), (4 * LIMIT, 413)])
async def test_body_is_counted_to_the_byte(gateway: Gateway, size: int, status: int, chunked: bool) -> None:
    body = load.body_of(size)
    head = load.head_of(gateway.key, None if chunked else size)
    answered, raw = await load.exchange(gateway.port, head, body, chunked)

    assert answered == status, raw
    assert status == 200 or json.loads(raw)["error"]["code"] == "1210"


@pytest.mark.parametrize(
    ("length", "body", "status"),
    [
        ("Content-Length: 40", b'{"model":"cogvideox-2","prompt":"a cat"}{"more":1}', 200),
        ("Content-Length: 20", b'{"model":"cogvideox-2","prompt":"a cat"}', 400),
        ("Content-Length: 99999999999999999999", b"{}", 400),
        ("Content-Length: 9999999999999", b"{}", 413),
        ("Content-Length: -1", b"{}", 400),
        ("Content-Length: 5, 5", b"{}   ", 400),
        ("Content-Length: 5\r\nContent-Length: 6", b"{}   ", 400),
        ("Content-Length: 2\r\nTransfer-Encoding: chunked", b"2\r\n{}\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: gzip, chunked", b"2\r\n{}\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked", b"zz\r\n{}\r\n0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked", b"ffffffffffffffffff\r\n{}", 400),
    ],
)
async def test_lying_length_is_refused_or_believed_to_the_letter(
    gateway: Gateway, length: str, body: bytes, status: int
) -> None:
    head = load.head_of(gateway.key, 0).replace("Content-Length: 0", length)
    answered, raw = await load.exchange(gateway.port, head, body)

    assert answered == status, raw
    assert status == 200 or json.loads(raw)["error"]["code"] in ("1210", "1213")


async def test_large_bodies_together_take_little_memory(gateway: Gateway) -> None:
    body = await asyncio.to_thread(load.picture_body, LIMIT)
    statuses = await load.post_together(gateway, 24, body)

    assert statuses == {200: 24}
    assert gateway.memory_mb("VmHWM") < 400, "of which 200 copies, too, take no more"


async def test_bomb_goes_off_in_the_child(gateway: Gateway) -> None:
    seen = await load.throw_bombs(gateway, 200_000_000)

    assert len(seen) >= 10
    assert max(grown for *_, grown in seen) < 50, seen


async def test_slow_clients_do_not_slow_a_healthy_one(gateway: Gateway) -> None:
    video = gateway.state / "results" / "videos" / "large.mp4"
    video.parent.mkdir(parents=True, exist_ok=True)
    video.write_bytes(bytes(16 * MEBIBYTE))
    await load.latencies_ms(gateway, 50)
    alone = load.middle_and_slow(await load.latencies_ms(gateway, 100))
    async with load.slow_clients(gateway, 90, gateway.link("videos/large.mp4")):
        crowded = load.middle_and_slow(await load.latencies_ms(gateway, 100))

    assert crowded[0] < 3 * alone[0], (alone, crowded)


def test_gateway_met_nothing_unexpected(gateway: Gateway) -> None:
    """After all of the above: no traceback, no word of a key."""
    log = Path(gateway.log.name).read_text()

    assert "Traceback" not in log
    assert gateway.key.split(".")[1] not in log
