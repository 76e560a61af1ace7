"""What becomes of a picture between the request and the store, through the sandboxed child."""

import asyncio
import base64
import io
import os
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from server.fetch import AddressRefused, FetchFailed, ImageFetcher
from server.images import ImageIntake, decode_base64
from server.refusal import Refusal
from server.settings import GatewaySettings
from video_jobs.job import ImageRef
from video_jobs.results import FolderStore

Take = Callable[[bytes], Awaitable[tuple[ImageRef, Path]]]


@pytest.fixture
async def take(tmp_path: Path) -> AsyncIterator[Take]:
    store = FolderStore(tmp_path / "results")
    intake = ImageIntake(store, GatewaySettings(state=tmp_path))

    async def one(raw: bytes) -> tuple[ImageRef, Path]:
        image = await intake.take(base64.b64encode(raw).decode())
        return image, store.path(image.key)

    yield one
    await intake.close()


def saved(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def noise(side: int) -> Image.Image:
    return Image.frombytes("RGB", (side // 3, side // 3), os.urandom((side // 3) ** 2 * 3)).resize((side, side))


async def test_same_picture_is_stored_once(take: Take, tmp_path: Path) -> None:
    first, second = [await take(saved(Image.new("RGB", (40, 20), "red"))) for _ in range(2)]

    assert first == second
    assert (first[0].width, first[0].height) == (40, 20)
    assert len(list((tmp_path / "results").rglob("*.png"))) == 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGB"])
async def test_largest_picture_is_taken_in_any_mode(take: Take, mode: str) -> None:
    image, _ = await take(saved(Image.new(mode, (6000, 6000))))

    assert (image.width, image.height) == (6000, 6000)


async def test_large_clean_picture_never_passes_through_the_gateways_memory(take: Take) -> None:
    raw = saved(noise(6000), "JPEG", quality=10)
    tracemalloc.start()
    try:
        _, path = await take(raw)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert path.stat().st_size > 60_000_000
    assert peak < 30_000_000


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (saved(Image.new("1", (8193, 1))), "image_size"),
        (saved(Image.new("1", (6001, 6000))), "image_size"),
        (saved(Image.new("1", (20_000, 20_000))), "image_size"),
        (saved(Image.new("RGB", (9, 9)), "GIF"), "image_format"),
        (saved(Image.new("RGB", (9, 9)), "TIFF"), "image_format"),
        (saved(noise(90), "JPEG")[:-900], "image_format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image_format"),
    ],
    ids=["too wide", "too many pixels", "bomb", "gif", "tiff", "cut short", "svg"],
)
async def test_bomb_or_foreign_picture_is_refused(take: Take, raw: bytes, why: str) -> None:
    with pytest.raises(Refusal) as refused:
        await take(raw)

    assert refused.value.detail == why


async def test_sixteen_bit_grey_keeps_its_shades(take: Take) -> None:
    grey = Image.new("I;16", (4, 1))
    for x, value in enumerate((0, 0x4000, 0x8000, 0xFFFF)):
        grey.putpixel((x, 0), value)
    _, path = await take(saved(grey))

    with Image.open(path) as picture:
        assert [picture.getpixel((x, 0)) for x in range(4)] == [(v, v, v) for v in (0, 64, 128, 255)]


async def test_broken_exif_does_not_spoil_a_whole_picture(take: Take) -> None:
    whole = saved(Image.new("RGB", (40, 20), "red"), "JPEG")
    image, _ = await take(whole[:2] + b"\xff\xe1\x00\x10Exif\x00\x00II*\x00\x08\x00\x00\x00" + whole[2:])

    assert (image.width, image.height) == (40, 20)


async def test_broken_list_of_further_pictures_does_not_spoil_the_first(take: Take) -> None:
    """Phones add previews and depth maps to a JPEG, and some list them wrongly."""
    whole = saved(Image.new("RGB", (40, 20), "red"), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    listed = whole.index(b"MPF\0") + 4
    image, _ = await take(whole[:listed] + b"XXXXXXXX" + whole[listed + 8 :])

    assert (image.width, image.height) == (40, 20)


@pytest.mark.parametrize("extra", [0, 1, 2, 3])
def test_base64_is_counted_to_the_byte(extra: int) -> None:
    text = base64.b64encode(b"x" * (1000 + extra)).decode()
    if not extra:
        assert len(decode_base64(f"DATA:image/png;base64, {text}", 1000)) == 1000
        return
    with pytest.raises(Refusal, match="image_size"):
        decode_base64(text, 1000)


async def test_cookie_of_one_caller_never_reaches_the_next() -> None:
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: who=first\r\nContent-Length: 1\r\n\r\nx")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        fetcher = ImageFetcher(1000, 2, [f"127.0.0.1:{port}"])
        for _ in range(2):
            await fetcher.fetch(f"http://127.0.0.1:{port}/")
        await fetcher.close()

    assert len(heard) == 2
    assert not any(b"cookie" in head.lower() for head in heard)


def answers(monkeypatch: pytest.MonkeyPatch, *replies: list[str], delay_s: float = 0) -> list[str]:
    """Name look-ups give these addresses in turn, the last one from then on."""
    asked: list[str] = []

    def look_up(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        time.sleep(delay_s)
        asked.append(host)
        found = replies[min(len(asked), len(replies)) - 1]
        kinds = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in found]
        return [(kind, socket.SOCK_STREAM, 6, "", (a, port)) for kind, a in zip(kinds, found, strict=True)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


@pytest.mark.parametrize("found", [["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["::1"], ["fe80::1%lo"], []])
async def test_name_with_any_inner_address_is_refused(monkeypatch: pytest.MonkeyPatch, found: list[str]) -> None:
    answers(monkeypatch, found)
    fetcher = ImageFetcher(1000, 2, [])
    with pytest.raises(AddressRefused):
        await fetcher.fetch("http://pictures.example/a.png")
    await fetcher.close()


async def test_judged_address_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch, ["93.184.216.34"], ["127.0.0.1"])
    reached: list[str] = []
    fetcher = ImageFetcher(1000, 2, [])

    async def note(host: str, *_: Any) -> Any:
        reached.append(host)
        raise OSError

    monkeypatch.setattr(fetcher._backend._inner, "connect_tcp", note)
    with pytest.raises(FetchFailed):
        await fetcher.fetch("http://rebinding.example/a.png")
    with pytest.raises(AddressRefused):
        await fetcher.fetch("http://rebinding.example/a.png")
    await fetcher.close()

    assert (reached, len(asked)) == (["93.184.216.34"], 2)


async def test_slow_names_hold_up_no_other_work(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, [], delay_s=1)
    fetcher = ImageFetcher(1000, 0.1, [])
    fetches = (fetcher.fetch(f"http://slow{n}.example/") for n in range(32))
    started = time.monotonic()
    failed = await asyncio.gather(*fetches, return_exceptions=True)
    await asyncio.to_thread(bool)

    assert {type(each) for each in failed} == {FetchFailed}
    assert time.monotonic() - started < 0.8, "the wait for a turn is part of the deadline"
    await fetcher.close()
