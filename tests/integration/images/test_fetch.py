"""Images are fetched from public addresses only: a canary listener counts who reached it."""

import asyncio
import contextlib
import io
import ipaddress
from collections.abc import AsyncIterator

import pytest
from PIL import Image

from server.addresses import is_public
from server.decode import clean
from server.fetch import AddressRefused, FetchFailed, ImageFetcher, ImageTooLarge

INNER = [
    *("127.0.0.1", "127.1", "127.0.1", "0", "0.0.0.0", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1", "localhost"),
    *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.100.100.200", "100.64.0.1"),
    *("192.0.0.192", "168.63.129.16", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.88.99.1"),
    *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[::ffff:0:a9fe:a9fe]", "[::a9fe:a9fe]"),
    *("[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[fe80::1]", "[fec0::1]"),
    *("[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[2001:db8::1]", "[3fff::1]", "[2606:4700::5efe:7f00:1]"),
    *("①②⑦.0.0.1", "127。0。0。1", "127.0.0.1.", "LOCALHOST", "localhost.", "[::1%25lo]", "%31%32%37.0.0.1"),
]
ODD = [
    *("file:///etc/passwd", "ftp://93.184.216.34/", "gopher://127.0.0.1/", "http:///x", "http://", "//127.0.0.1/", ""),
    *(
        "http://a@127.0.0.1/",
        "http://evil.example\\@127.0.0.1/",
        "http://127.0.0.1\t/",
        "http://127.0.0.1/ x",
        "x" * 3000,
        "http://127.0.0.1/" + "x" * 9000,
        "http://127.0.0.1／a@93.184.216.34/",
        "http://93.184.216.34＠127.0.0.1/",
        *("http://127.0.0.1/\u202e", "http://127.0.0.1/\u2028", "http://127.0.0.1/\u00a0", "http://127.0.0.1/\u200b"),
    ),
    *("http://127.0.0.1:0/", "http://127.0.0.1:99999/", "unix:///run/x", "data:image/png;base64,AA", "http://[::1"),
]


@pytest.fixture
async def canary() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A listener on every loopback address that notes whoever comes, and answers with a redirect to itself."""
    heard: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readline())
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(note, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heard


@pytest.mark.parametrize("host", INNER)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_inner_address_in_any_spelling_is_never_reached(
    canary: tuple[int, list[bytes]], host: str, scheme: str
) -> None:
    port, heard = canary
    fetcher = ImageFetcher(1000, 2, [])
    for url in (f"{scheme}://{host}/", f"{scheme}://{host}:{port}/"):
        with pytest.raises((AddressRefused, FetchFailed)):
            await fetcher.fetch(url)
    await fetcher.close()

    assert heard == []


@pytest.mark.parametrize("url", ODD)
async def test_odd_url_is_refused(url: str) -> None:
    fetcher = ImageFetcher(1000, 2, [])
    with pytest.raises((AddressRefused, FetchFailed)):
        await fetcher.fetch(url)
    await fetcher.close()


async def test_allowed_address_is_reached_and_what_it_redirects_to_is_judged(
    canary: tuple[int, list[bytes]],
) -> None:
    port, heard = canary
    fetcher = ImageFetcher(1000, 2, [f"127.0.0.1:{port}"])
    with pytest.raises(AddressRefused):
        await fetcher.fetch(f"http://127.0.0.1:{port}/a.png")
    await fetcher.close()

    assert len(heard) == 1


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/图/一只猫.png", "/%E5%9B%BE/%E4%B8%80%E5%8F%AA%E7%8C%AB.png"),
        ("/a.png?名=é&b=%20#片", "/a.png?%E5%90%8D=%C3%A9&b=%20"),
        ("?x=／＠", "/?x=%EF%BC%8F%EF%BC%A0"),
        ("/a.png?X-Amz-Security-Token=" + "t" * 4000, "/a.png?X-Amz-Security-Token=" + "t" * 4000),
    ],
)
async def test_path_is_asked_for_as_browsers_ask(canary: tuple[int, list[bytes]], path: str, asked: str) -> None:
    port, heard = canary
    fetcher = ImageFetcher(1000, 2, [f"127.0.0.1:{port}"])
    with pytest.raises(AddressRefused):
        await fetcher.fetch(f"http://127.0.0.1:{port}{path}")
    await fetcher.close()

    assert heard == [f"GET {asked} HTTP/1.1\r\n".encode()]


@pytest.mark.parametrize("body", [b"x" * 5000, b""])
async def test_bytes_are_counted_and_time_is_bounded(body: bytes) -> None:
    over, closed = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + body)
        await over.wait()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        closed.set()

    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        fetcher = ImageFetcher(1000, 0.3, [f"127.0.0.1:{port}"])
        with pytest.raises(ImageTooLarge if body else FetchFailed):
            await fetcher.fetch(f"http://127.0.0.1:{port}/")
        await fetcher.close()
        over.set()
        await asyncio.wait_for(closed.wait(), 5)


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "2a00:1450::1"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def test_cleaning_keeps_pixels_and_nothing_else() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a secret place"
    cleaned = clean(saved(Image.new("RGB", (40, 20), "red"), "JPEG", exif=exif) + b"<script>polyglot</script>")

    with Image.open(io.BytesIO(cleaned)) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (20, 40)), "turned as its tag says"
        assert picture.info == {}
    assert b"secret" not in cleaned
    assert b"script" not in cleaned


def test_transparent_parts_become_white() -> None:
    with Image.open(io.BytesIO(clean(saved(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "PNG")))) as picture:
        assert picture.getpixel((0, 0)) == (255, 255, 255)


def test_picture_of_too_many_pixels_is_refused_by_its_header() -> None:
    for size in ((9000, 10), (8000, 8000)):
        with pytest.raises(SystemExit):
            clean(saved(Image.new("1", size), "PNG"))
