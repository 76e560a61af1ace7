"""Fetching a caller's image: only from addresses that anybody on the internet could reach.

The address that is connected to is judged, never the name or its spelling: every address a name resolves to must be
public, and the connection goes to one of those just judged. A redirect is a new address and judged as such.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import quote

import httpcore2
import httpx2

from server.addresses import PORTS, Allowed

MAX_FETCHES, MAX_REDIRECTS = 8, 3
REDIRECTS = {301, 302, 303, 307, 308}
# A signed URL with the token of a session is long.
MAX_URL = 8192
AUTHORITY = re.compile(r"https?://[^/?#]*", re.IGNORECASE)


class AddressRefused(Exception):
    """The image's address is not a public one."""


class FetchFailed(Exception):
    """The image could not be fetched."""


class TooBusy(Exception):
    """So many images are being fetched that this one got no turn."""


class ImageTooLarge(Exception):
    """The image is larger than allowed."""


class PublicOnly(httpcore2.AsyncNetworkBackend):
    """Connects only to addresses that were judged public, or that the operator allows."""

    def __init__(self, allowed: Allowed) -> None:
        self._allowed = allowed
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
        address = host if self._allowed.has_name(host, port) else await self._judge(host, port)
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
        if not self._allowed.has_port(port):
            raise AddressRefused
        try:
            look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
            found = await asyncio.get_running_loop().run_in_executor(self._resolvers, look_up)
        except (OSError, UnicodeError) as exc:
            raise FetchFailed from exc
        addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        if not addresses or not all(self._allowed.has_address(address, port) for address in addresses):
            raise AddressRefused
        return str(addresses[0])


class ImageFetcher:
    """No proxy from the environment, no cookies, a deadline over all, and bytes counted as they come."""

    def __init__(self, max_bytes: int, limit_s: float, allowed: Iterable[str]) -> None:
        self._max_bytes, self._limit_s = max_bytes, limit_s
        transport = httpx2.AsyncHTTPTransport(trust_env=False, limits=httpx2.Limits(max_keepalive_connections=0))
        self._backend = PublicOnly(Allowed(allowed))
        transport._pool._network_backend = self._backend
        # One client serves every caller: a cookie of one must not reach another, nor pile up.
        nothing_kept = CookieJar(DefaultCookiePolicy(allowed_domains=()))
        self._client = httpx2.AsyncClient(
            transport=transport, trust_env=False, follow_redirects=False, cookies=nothing_kept
        )
        self._room = asyncio.Semaphore(MAX_FETCHES)

    async def fetch(self, url: str) -> bytes:
        address = _plain_url(_escaped(url))
        await self._turn()
        try:
            async with asyncio.timeout(self._limit_s):
                return await self._follow(address)
        except (httpx2.HTTPError, httpx2.InvalidURL, httpcore2.NetworkError, TimeoutError, OSError, ValueError) as exc:
            raise FetchFailed from exc
        finally:
            self._room.release()

    async def _turn(self) -> None:
        """Bounded too: the place reserved for the job does not last for ever."""
        try:
            async with asyncio.timeout(self._limit_s):
                await self._room.acquire()
        except TimeoutError as exc:
            raise TooBusy from exc

    async def close(self) -> None:
        await self._client.aclose()
        self._backend.close()

    async def _follow(self, address: httpx2.URL) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._read(address)
            if isinstance(answer, bytes):
                return answer
            address = answer
        raise FetchFailed

    async def _read(self, address: httpx2.URL) -> bytes | httpx2.URL:
        """The bytes at the address, or the address that it points to."""
        parts: list[bytes] = []
        size = 0
        async with self._client.stream("GET", address, headers={"Accept-Encoding": "identity"}) as reply:
            if reply.status_code in REDIRECTS:
                return _next_url(address, reply.headers.get("location", ""))
            if reply.status_code != 200 or reply.headers.get("content-encoding", "identity") != "identity":
                raise FetchFailed
            async for part in reply.aiter_raw():
                size += len(part)
                if size > self._max_bytes:
                    raise ImageTooLarge
                parts.append(part)
        return b"".join(parts)


def _next_url(address: httpx2.URL, location: str) -> httpx2.URL:
    """Where a redirect points to, read as strictly as what the caller sent; never from https back to http."""
    _check_letters(location)
    target = _plain_url(str(address.join(location)))
    if address.scheme == "https" != target.scheme:
        raise FetchFailed
    return target


def _escaped(url: str) -> str:
    """Letters beyond ASCII in path and query as browsers send them. Of a host they are none that we would read."""
    host = AUTHORITY.match(url)
    if host is None or len(url) > MAX_URL or not url.isprintable():
        raise FetchFailed
    path = url[host.end() :]
    return host[0] + "".join(letter if letter.isascii() else quote(letter) for letter in path)


def _plain_url(url: str) -> httpx2.URL:
    """One parser reads the URL, the client's own; what parsers could read differently is refused."""
    _check_letters(url)
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as exc:
        raise FetchFailed from exc
    if parsed.scheme not in PORTS or parsed.userinfo or not parsed.host:
        raise FetchFailed
    return parsed


def _check_letters(url: str) -> None:
    if not url or len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise FetchFailed
