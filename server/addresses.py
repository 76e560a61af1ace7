"""Which addresses an image may be fetched from: those anybody on the internet can reach, and what the operator allows.

An address is judged, never a name or its spelling.
"""

import ipaddress
from collections.abc import Iterable

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
PORTS = {"http": 80, "https": 443}

_GLOBAL_V6 = ipaddress.ip_network("2000::/3")
_SPECIAL_V6 = [
    ipaddress.ip_network(net) for net in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "2620:4f:8000::/48")
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


def is_public(address: IpAddress) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return False
        # ISATAP interface ids wrap a v4 address inside any prefix.
        wraps = (int(address) >> 32) & 0xFFFFFFFF in (0x00005EFE, 0x02005EFE)
        return address in _GLOBAL_V6 and not wraps and not any(address in net for net in _SPECIAL_V6)
    return not any(address in net for net in _SPECIAL_V4)


class Allowed:
    """The operator's exceptions: `HOST:PORT` by name, or `NETWORK` and `NETWORK:PORT` by address (v6 in brackets)."""

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self._names: set[tuple[str, int]] = set()
        self._networks: list[tuple[IpNetwork, frozenset[int]]] = []
        for entry in entries:
            self._add(entry.strip())

    def has_name(self, host: str, port: int) -> bool:
        return (host.strip("[]").lower(), port) in self._names

    def has_port(self, port: int) -> bool:
        return port in PORTS.values() or any(port in ports for _, ports in self._networks)

    def has_address(self, address: IpAddress, port: int) -> bool:
        """Public addresses are open on the web's own ports, inner ones where they are allowed."""
        if port in PORTS.values() and is_public(address):
            return True
        return any(port in ports and address in network for network, ports in self._networks)

    def _add(self, entry: str) -> None:
        host, port = _split(entry)
        if port is not None and "/" not in host:
            self._names.add((host.lower(), port))
            return
        try:
            network = ipaddress.ip_network(host)
        except ValueError as exc:
            raise ValueError(f"{entry}: neither HOST:PORT nor a network such as 10.1.0.0/16") from exc
        self._networks.append((network, frozenset(PORTS.values() if port is None else [port])))


def _split(entry: str) -> tuple[str, int | None]:
    """Host and port; a bare v6 network, all colons, has no port."""
    if entry.startswith("["):
        host, _, port = entry[1:].partition("]")
        port = port.removeprefix(":")
    elif entry.count(":") == 1:
        host, _, port = entry.partition(":")
    else:
        host, port = entry, ""
    if not host or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
        raise ValueError(f"{entry}: not a host and a port")
    return host, int(port) if port else None
