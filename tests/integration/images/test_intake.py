"""What becomes of a picture between the request and the store, through the sandboxed child."""

import asyncio
import base64
import io
import os
import socket
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from server.fetch import MAX_FETCHES, AddressRefused, FetchFailed, ImageFetcher, TooBusy
from server.images import BUSY_SECONDS, ImageIntake, _bare_environment, decode_base64
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
        image = await intake.take(base64.b64encode(raw).decode(), "acme")
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


@pytest.mark.parametrize("side", [8, 40])
async def test_first_of_several_pictures_in_a_jpeg_is_taken(take: Take, side: int) -> None:
    """Phones write their photographs so: brightness maps, depth maps, the second lens."""
    more = [Image.new("RGB", (side, side), "blue")]
    _, path = await take(saved(Image.new("RGB", (40, 20), "red"), "MPO", save_all=True, append_images=more))

    with Image.open(path) as picture:
        assert (picture.size, picture.getpixel((0, 0))) == ((40, 20), (254, 0, 0))


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

    assert {type(each) for each in failed} == {FetchFailed, TooBusy}
    assert time.monotonic() - started < 0.8, "the wait for a turn has a deadline too"
    await fetcher.close()


async def test_picture_is_not_blamed_for_a_gateway_that_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for the turn that did not come, nor for the decoder that a loaded machine starved."""
    monkeypatch.setattr("server.images.DECODE_SECONDS", 0.001)
    intake = ImageIntake(FolderStore(tmp_path / "results"), GatewaySettings(state=tmp_path, image_fetch_seconds=0.1))
    for _ in range(MAX_FETCHES):
        await intake._fetcher._room.acquire()

    for image in ("http://93.184.216.34/a.png", base64.b64encode(saved(Image.new("RGB", (8, 8)))).decode()):
        with pytest.raises(Refusal) as refused:
            await intake.take(image, "acme")
        assert (refused.value.code, refused.value.wait_s) == ("1305", BUSY_SECONDS)
    await intake.close()


async def test_tenant_takes_two_at_once_and_holds_up_nobody_else(tmp_path: Path) -> None:
    busy: dict[str, int] = {"acme": 0, "globex": 0}
    most, go_on = dict(busy), asyncio.Event()
    intake = ImageIntake(FolderStore(tmp_path / "results"), GatewaySettings(state=tmp_path))

    async def slowly(tenant: str) -> ImageRef:
        busy[tenant] += 1
        most[tenant] = max(most[tenant], busy[tenant])
        await go_on.wait()
        busy[tenant] -= 1
        return ImageRef(key="", sha256="", width=1, height=1)

    intake._take = slowly  # type: ignore[method-assign]
    taken = [asyncio.ensure_future(intake.take("acme", "acme")) for _ in range(50)]
    await asyncio.sleep(0.05)
    other = asyncio.ensure_future(intake.take("globex", "globex"))
    await asyncio.sleep(0.05)
    at_once = dict(busy)
    go_on.set()
    await asyncio.gather(*taken, other)
    del taken, other
    await intake.close()

    assert at_once == most == {"acme": 2, "globex": 1}
    assert len(intake._turns._own) == 0, "nobody is remembered who has no image under way"


async def test_image_that_gets_no_turn_in_time_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.images.INTAKE_SECONDS", 0.1)
    intake = ImageIntake(FolderStore(tmp_path / "results"), GatewaySettings(state=tmp_path, max_tenant_images=1))

    async def for_ever(text: str) -> ImageRef:
        await asyncio.sleep(60)
        raise AssertionError

    intake._take = for_ever  # type: ignore[method-assign]
    refused = await asyncio.gather(*(intake.take("x", "acme") for _ in range(3)), return_exceptions=True)
    await intake.close()

    assert [each.code for each in refused if isinstance(each, Refusal)] == ["1302"] * 3


async def test_webp_is_taken_by_setting_only(tmp_path: Path) -> None:
    picture = base64.b64encode(saved(Image.new("RGB", (40, 20), "red"), "WEBP")).decode()
    store = FolderStore(tmp_path / "results")
    strict = ImageIntake(store, GatewaySettings(state=tmp_path))
    with pytest.raises(Refusal, match="image_format"):
        await strict.take(picture, "acme")
    open_to_it = ImageIntake(store, GatewaySettings(state=tmp_path, image_webp=True))
    image = await open_to_it.take(picture, "acme")
    await strict.close()
    await open_to_it.close()

    assert (image.width, image.height) == (40, 20)


CAPTIVE = """
import os, socket, sys
from server.decode import confine
outside = os.readlink("/proc/self/ns/net")
confine()
told = []
def attempt(name, action):
    try:
        action(); told.append(name)
    except OSError:
        pass
attempt("file", lambda: open("/etc/passwd"))
attempt("socket", socket.socket)
attempt("pipe", os.pipe)
try:
    bytearray(2 << 30); told.append("memory")
except MemoryError:
    pass
inside = os.readlink("/proc/self/ns/net")
os.close(2)  # one descriptor for a socket, as a decoder that was taken over would make itself
canary = socket.socket()
canary.settimeout(2)
attempt("network", lambda: canary.connect(("127.0.0.1", int(sys.argv[1]))))
print(*told, "alone" if inside != outside else "shared")
"""


def may_unshare() -> bool:
    return subprocess.run(["unshare", "-Un", "true"], capture_output=True).returncode == 0


def test_captive_decoder_opens_nothing_and_reaches_nobody() -> None:
    with socket.socket() as canary:
        canary.bind(("127.0.0.1", 0))
        canary.listen()
        port = str(canary.getsockname()[1])
        said = subprocess.run([sys.executable, "-P", "-c", CAPTIVE, port], capture_output=True, text=True, check=True)

    if may_unshare():
        assert said.stdout.split() == ["alone"]
    else:
        assert said.stdout.split() == ["network", "shared"], "this machine forbids namespaces; the rest holds"


async def test_child_is_told_nothing_of_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COGVIDEOX_REDIS_URL", "redis://:secret@somewhere/")
    monkeypatch.setenv("COGVIDEOX_REWRITER_KEY", "secret")

    assert "secret" not in "".join(_bare_environment().values())
    assert "PYTHONPATH" in _bare_environment() or "PYTHONPATH" not in os.environ
