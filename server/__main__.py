"""`python -P -m server`: the gateway on uvicorn."""

import contextlib
import ctypes
import resource
import socket
import sys
from pathlib import Path

import uvicorn

from server.app import create_app
from server.protocol import BoundedHttp
from server.settings import GatewaySettings
from video_jobs.declared import BadFile, parse
from video_jobs.fragment import read_settings
from video_jobs.logs import set_up_logs

M_MMAP_THRESHOLD = -3


def main() -> None:
    settings = read_settings(GatewaySettings)
    set_up_logs(settings.log_level)
    _check_tenants(settings.tenants_file)
    _open_many()
    _give_memory_back()
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        # Whose word about the caller's address counts is a setting of ours.
        proxy_headers=False,
        http=BoundedHttp,
        ws="none",
        loop="uvloop",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    ports = [settings.port, *filter(None, [settings.admin_port])]
    uvicorn.Server(config).run(sockets=[_listen(settings.host, port) for port in ports])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=_family(host), backlog=2048)
    except OSError as error:
        sys.exit(f"{host}:{port} cannot be listened on: {error.strerror}")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _check_tenants(path: Path | None) -> None:
    """A file that is bad from the start is told at the start."""
    try:
        parse(path.read_bytes() if path else b"")
    except (BadFile, OSError) as error:
        sys.exit(f"COGVIDEOX_TENANTS_FILE: {error}")


def _open_many() -> None:
    """As many connections as the machine allows: slow clients must not use up a low default."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _give_memory_back() -> None:
    """What held a large body goes back to the system when it is freed, instead of into the arena of its thread."""
    with contextlib.suppress(AttributeError):  # a libc without this needs it less
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1024 * 1024)


if __name__ == "__main__":
    main()
