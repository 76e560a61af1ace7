"""Inner addresses in every spelling, by every way in: whatever passes the judge lands at a canary that counts."""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any
from unittest import mock

import pytest

from server.addresses import Allowed
from server.fetch import AddressRefused, FetchFailed, ImageFetcher

INNER_V4 = [
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1"),
    *("100.100.100.200", "100.127.255.255", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255"),
    *("192.0.0.192", "192.0.0.170", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.0.1"),
    *("192.175.48.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "168.63.129.16"),
    *("224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
]
INNER_V6 = [
    *("::1", "::", "::2", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:93.184.216.34", "::127.0.0.1"),
    *("::169.254.169.254", "::ffff:0:127.0.0.1", "::ffff:0:a9fe:a9fe", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe"),
    *(
        "64:ff9b:1::7f00:1",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::1",
        "2001::7f00:1",
        "2001:0:4136:e378:8000:63bf:80ff:fffe",
    ),
    *("2001:10::1", "2001:20::1", "2001:db8::1", "3fff::1", "2620:4f:8000::1", "2606:4700::5efe:127.0.0.1"),
    *("2606:4700::200:5efe:127.0.0.1", "100::1", "100:0:0:1::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1"),
    *("fe80::a9fe:a9fe", "fec0::1", "ff02::1", "ff05::2", "4000::1", "e000::1"),
]
INNER = [*INNER_V4, *INNER_V6]
PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e"]


def spelt(address: str) -> Iterator[str]:
    """The address as a URL's host, in the ways that some resolver somewhere understands."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        yield from (f"[{address}]", f"[{parsed.exploded.upper()}]", f"[{address}%25lo]", f"[{address}%lo]")
        return
    a, b, c, d = parsed.packed
    number = int(parsed)
    yield from (address, f"{address}.", f"{number}", f"0x{number:x}", f"0X{number:X}", f"0{number:o}")
    yield from (f"{a}.{(b << 16) + (c << 8) + d}", f"{a}.{b}.{(c << 8) + d}", f"0{a:o}.0{b:o}.0{c:o}.0{d:o}")
    yield from (f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}", f"0x{a:x}.{b}.0{c:o}.{d}", f"{a:03}.{b:03}.{c:03}.{d:03}")
    yield from (address.translate({ord("0") + n: ord("０") + n for n in range(10)}), address.replace(".", "。"))
    yield from (
        address.replace(".", "．"),
        address.replace("1", "①"),
        address.replace(".", "%2e"),
        f"%{ord(address[0]):x}{address[1:]}",
    )


class Canary:
    """A listener where every connection lands that the fetcher would make, whatever its address."""

    def __init__(self) -> None:
        self.hits: list[str] = []
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes"
        self.port = 0

    async def sing(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.hits.append((await reader.readline()).decode())
        writer.write(self.answer)
        writer.close()
        await writer.wait_closed()

    def catch(self, fetcher: ImageFetcher) -> ImageFetcher:
        """Every connection that the fetcher's judge lets through comes here."""
        real = fetcher._backend._inner.connect_tcp

        async def land(host: str, port: int, *rest: Any) -> Any:
            return await real("127.0.0.1", self.port, *rest)

        fetcher._backend._inner.connect_tcp = land  # type: ignore[method-assign]
        return fetcher


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    bird = Canary()
    server = await asyncio.start_server(bird.sing, "127.0.0.1", 0)
    bird.port = server.sockets[0].getsockname()[1]
    async with server:
        yield bird


@pytest.fixture
async def fetcher(canary: Canary) -> AsyncIterator[ImageFetcher]:
    opened = canary.catch(ImageFetcher(1000, 2, ["pictures.example:80"]))
    yield opened
    await opened.close()


def resolver(**names: list[str]) -> Any:
    """Name look-ups that know these names and no others; numbers are read as the system reads them."""
    real = socket.getaddrinfo

    def look_up(host: str, port: int, *_: Any, **__: Any) -> Any:
        if host not in names:
            return real(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        kinds = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in names[host]]
        return [(kind, socket.SOCK_STREAM, 6, "", (a, port)) for kind, a in zip(kinds, names[host], strict=True)]

    return mock.patch.object(socket, "getaddrinfo", look_up)


def urls() -> list[str]:
    """Every inner address in every spelling, on both schemes and on ports that lead elsewhere."""
    hosts = [host for address in INNER for host in spelt(address)] + ["localhost", "LOCALHOST", "localhost."]
    return [f"{scheme}://{host}/" for host in hosts for scheme in ("http", "https")]


async def refused(fetcher: ImageFetcher, url: str) -> bool:
    try:
        await fetcher.fetch(url)
    except (AddressRefused, FetchFailed):
        return True
    return False


def test_there_are_enough_of_them() -> None:
    assert len(set(urls())) >= 1000
    assert len(set(INNER)) >= 60


async def test_canary_hears_what_is_let_through(canary: Canary, fetcher: ImageFetcher) -> None:
    for address in PUBLIC:
        host = f"[{address}]" if ":" in address else address
        assert await fetcher.fetch(f"http://{host}/a.png") == b"yes"
    with resolver(**{"cats.example": PUBLIC}):
        assert await fetcher.fetch("http://cats.example/a.png") == b"yes"

    assert len(canary.hits) == len(PUBLIC) + 1


async def test_no_inner_address_is_reached_as_written(canary: Canary, fetcher: ImageFetcher) -> None:
    with resolver(**{name: ["127.0.0.1", "::1"] for name in ("localhost", "localhost.")}):
        let_through = [url for url in urls() if not await refused(fetcher, url)]

    assert let_through == []
    assert canary.hits == []


@pytest.mark.parametrize("place", ["alone", "before", "after"])
async def test_no_inner_address_is_reached_by_a_names_answer(canary: Canary, fetcher: ImageFetcher, place: str) -> None:
    for address in INNER:
        answer = {"alone": [address], "before": [address, *PUBLIC], "after": [*PUBLIC, address]}[place]
        with resolver(**{"evil.example": answer}):
            assert await refused(fetcher, "http://evil.example/a.png"), address
            assert await refused(fetcher, "https://evil.example/a.png"), address

    assert canary.hits == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_inner_address_is_reached_by_a_redirect(canary: Canary, fetcher: ImageFetcher, status: int) -> None:
    """The redirect itself comes from the canary, allowed by name: one hit for it, none after it."""
    targets = [url for url in urls() if url.startswith("http:")][status % 5 :: 5]
    targets += [url.removeprefix("http:") for url in targets[:50]]
    for target in targets:
        canary.answer = f"HTTP/1.1 {status} Go\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()
        canary.hits.clear()
        with resolver(localhost=["127.0.0.1"]):
            assert await refused(fetcher, "http://pictures.example/a.png"), target
        assert len(canary.hits) == 1, target


@pytest.mark.parametrize(
    "location",
    [
        *("file:///etc/passwd", "ftp://93.184.216.34/", "gopher://127.0.0.1/", "data:image/png;base64,AA", "unix:///x"),
        *("", "http://a@93.184.216.34/", "http://93.184.216.34\\@127.0.0.1/", "http://93.184.216.34:8080/"),
        *("http://127.0.0.1:0/", "http://[::1/", "http://93.184.216.34/\x7f", "http://93.184.216.34/a b", "http://é/"),
    ],
)
async def test_odd_redirect_is_refused(canary: Canary, fetcher: ImageFetcher, location: str) -> None:
    canary.answer = f"HTTP/1.1 302 Go\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")

    assert await refused(fetcher, "http://pictures.example/a.png")
    assert len(canary.hits) == 1


async def test_three_redirects_are_followed_and_a_loop_is_left(canary: Canary, fetcher: ImageFetcher) -> None:
    canary.answer = b"HTTP/1.1 302 Go\r\nLocation: /b.png\r\nContent-Length: 0\r\n\r\n"

    assert await refused(fetcher, "http://pictures.example/a.png")
    assert len(canary.hits) == 4
    assert canary.hits[-1].startswith("GET /b.png ")


async def test_rebinding_name_never_reaches_what_was_not_judged(canary: Canary) -> None:
    """Each look-up answers another way, by turns: in 1,000 rounds every connection goes to an address just judged."""
    asked = 0
    reached: list[str] = []

    def look_up(host: str, port: int, *_: Any, **__: Any) -> Any:
        nonlocal asked
        asked += 1
        address = PUBLIC[0] if asked % 2 else INNER_V4[asked // 2 % len(INNER_V4)]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    fetcher = ImageFetcher(1000, 2, [])

    async def note(host: str, *_: Any) -> Any:
        reached.append(host)
        raise OSError

    fetcher._backend._inner.connect_tcp = note  # type: ignore[method-assign]
    with mock.patch.object(socket, "getaddrinfo", look_up):
        answers = [await refused(fetcher, "http://rebinding.example/a.png") for _ in range(1000)]
    await fetcher.close()

    assert all(answers)
    assert asked == 1000, "one look-up a round: what was judged is what is connected to"
    assert reached == [PUBLIC[0]] * 500


async def test_proxy_of_the_environment_is_not_used(canary: Canary, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
    fetcher = ImageFetcher(1000, 2, [])
    assert await refused(fetcher, "http://10.0.0.1/a.png")
    await fetcher.close()

    assert canary.hits == []


@pytest.mark.parametrize(
    ("entry", "open_to", "shut_to"),
    [
        ("10.1.0.0/16", ["http://10.1.2.3/"], ["http://10.2.0.1/", "http://10.1.2.3:9000/", "http://127.0.0.1/"]),
        ("10.1.0.0/16:9000", ["http://10.1.2.3:9000/"], ["http://10.1.2.3/", "http://93.184.216.34:9000/"]),
        ("10.1.2.3", ["http://10.1.2.3/", "http://0xa010203/"], ["http://10.1.2.4/", "http://10.1.2.3:81/"]),
        ("fd00::/8", ["http://[fd00::1]/"], ["http://[fc00::1]/", "http://[::1]/", "http://[::ffff:10.0.0.1]/"]),
        ("[fd00::/8]:9000", ["http://[fd00::1]:9000/"], ["http://[fd00::1]/"]),
        ("Store.example:9000", ["http://store.example:9000/"], ["http://10.1.2.3/"]),
        ("[fd00::5]:9000", ["http://[fd00::5]:9000/"], ["http://[fd00::5]/", "http://[fd00::6]:9000/"]),
    ],
)
async def test_operator_opens_a_place_and_nothing_beside_it(
    canary: Canary, entry: str, open_to: list[str], shut_to: list[str]
) -> None:
    fetcher = canary.catch(ImageFetcher(1000, 2, [entry]))
    assert [await fetcher.fetch(url) for url in open_to] == [b"yes"] * len(open_to)
    assert [await refused(fetcher, url) for url in shut_to] == [True] * len(shut_to)
    await fetcher.close()

    assert len(canary.hits) == len(open_to)


@pytest.mark.parametrize(
    "entry", ["10.1.0.0/33", "10.1.2.3/16", "store", "store:", "store:0", "store:99999", ":80", "a:b"]
)
def test_place_that_means_nothing_is_told_at_the_start(entry: str) -> None:
    with pytest.raises(ValueError, match=r"not|neither"):
        Allowed([entry])
