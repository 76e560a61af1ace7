"""Where a request comes from: the connection's peer, or whom a trusted proxy names."""

import ipaddress
from collections.abc import Iterable

from fastapi import Request

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MAX_HOPS = 32


def client_address(request: Request, trusted: Iterable[Network]) -> str:
    """The nearest address that is not a trusted proxy's; whatever a client wrote before it does not count."""
    peer = request.client.host if request.client else ""
    chain = [peer, *reversed(",".join(request.headers.getlist("x-forwarded-for")).split(",")[-MAX_HOPS:])]
    proxies = list(trusted)
    nearest = peer
    for hop in chain:
        address = _address(hop)
        if address is None:
            break
        nearest = str(address)
        if not any(address in network for network in proxies):
            break
    return nearest


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text.strip().strip("[]"))
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
