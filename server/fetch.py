"""Fetching a caller's image: only from addresses that anybody on the internet could reach.

The address that is connected to is judged, never the name or its spelling: every address a name resolves to must be
public, and the connection goes to one of those just judged.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore2
import httpx2

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
MAX_FETCHES = 8
PORTS = {"http": 80, "https": 443}

_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
_SPECIAL_V6 = [
    ipaddress.ip_network(net)
    for net in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "2620:4f:8000::/48", "2001:20::/28")
]
_SPECIAL_V4 = [
    ipaddress.ip_network(net)
    for net in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",
    )
]


class AddressRefused(Exception):
    """The image's address is not a public one."""


class FetchFailed(Exception):
    """The image could not be fetched."""


class ImageTooLarge(Exception):
    """The image is larger than allowed."""


def is_public(address: IpAddress) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return False
        # ISATAP interface ids wrap a v4 address inside any prefix.
        wraps = (int(address) >> 32) & 0xFFFFFFFF in (0x00005EFE, 0x02005EFE)
        return address in _GLOBAL_V6 and not wraps and not any(address in net for net in _SPECIAL_V6)
    return not any(address in net for net in _SPECIAL_V4)


class PublicOnly(httpcore2.AsyncNetworkBackend):
    """Connects only to addresses that were judged public, or to a `HOST:PORT` that the operator allows by name."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = frozenset(allowed)
        self._inner = httpcore2.AnyIOBackend()
        # A name that resolves slowly outlives its deadline in a thread: not in one that other work waits for.
        self._resolvers = ThreadPoolExecutor(MAX_FETCHES, "resolve")

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        address = host if f"{host}:{port}" in self._allowed else await self._judge(host, port)
        return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        raise AddressRefused

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def close(self) -> None:
        self._resolvers.shutdown(wait=False, cancel_futures=True)

    async def _judge(self, host: str, port: int) -> str:
        if port not in PORTS.values():
            raise AddressRefused
        try:
            look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
            found = await asyncio.get_running_loop().run_in_executor(self._resolvers, look_up)
        except (OSError, UnicodeError) as exc:
            raise FetchFailed from exc
        addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        if not addresses or not all(is_public(address) for address in addresses):
            raise AddressRefused
        return str(addresses[0])


class ImageFetcher:
    """No redirects, no proxy from the environment, a deadline over all, and bytes counted as they come."""

    def __init__(self, max_bytes: int, limit_s: float, allowed: Iterable[str]) -> None:
        self._max_bytes, self._limit_s = max_bytes, limit_s
        transport = httpx2.AsyncHTTPTransport(trust_env=False, limits=httpx2.Limits(max_keepalive_connections=0))
        self._backend = PublicOnly(allowed)
        transport._pool._network_backend = self._backend
        # One client serves every caller: a cookie of one must not reach another, nor pile up.
        nothing_kept = CookieJar(DefaultCookiePolicy(allowed_domains=()))
        self._client = httpx2.AsyncClient(
            transport=transport, trust_env=False, follow_redirects=False, cookies=nothing_kept
        )
        self._room = asyncio.Semaphore(MAX_FETCHES)

    async def fetch(self, url: str) -> bytes:
        address = _plain_url(url)
        try:
            # The wait for a turn counts too: the place reserved for the job does not last for ever.
            async with asyncio.timeout(self._limit_s), self._room:
                return await self._read(address)
        except (httpx2.HTTPError, httpx2.InvalidURL, httpcore2.NetworkError, TimeoutError, OSError, ValueError) as exc:
            raise FetchFailed from exc

    async def close(self) -> None:
        await self._client.aclose()
        self._backend.close()

    async def _read(self, address: httpx2.URL) -> bytes:
        parts: list[bytes] = []
        size = 0
        async with self._client.stream("GET", address, headers={"Accept-Encoding": "identity"}) as reply:
            if reply.status_code != 200 or reply.headers.get("content-encoding", "identity") != "identity":
                raise FetchFailed
            async for part in reply.aiter_raw():
                size += len(part)
                if size > self._max_bytes:
                    raise ImageTooLarge
                parts.append(part)
        return b"".join(parts)


def _plain_url(url: str) -> httpx2.URL:
    """One parser reads the URL, the client's own; what parsers could read differently is refused."""
    if not url.isascii() or any(letter in "\\ \t\r\n" or ord(letter) < 33 for letter in url) or len(url) > 2048:
        raise FetchFailed
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as exc:
        raise FetchFailed from exc
    if parsed.scheme not in PORTS or parsed.userinfo or not parsed.host:
        raise FetchFailed
    return parsed
