"""Both images, built by buildah in a store of its own on a Debian base made here, and containers of them.

`BASE` names a base image to pull instead. Only `make image-test` comes here: it takes minutes and gigabytes.
"""

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".venvs" / "images"
OWN_BASE = "localhost/base:bookworm"
USER = 10001


class Buildah:
    """buildah without a daemon, without root of the host's namespaces: chroot isolation, layers copied (vfs)."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._store = ["--root", str(home / "store"), "--runroot", str(home / "run"), "--storage-driver", "vfs"]

    def __call__(self, *args: str, timeout_s: float = 1800) -> str:
        done = subprocess.run(
            ["buildah", *self._store, *args], cwd=ROOT, capture_output=True, text=True, timeout=timeout_s
        )
        assert done.returncode == 0, f"buildah {args[0]}: {(done.stdout + done.stderr)[-6000:]}"
        return done.stdout.strip()

    def build(self, name: str, *args: str) -> str:
        mounts = [f"--volume={source}:{target}:ro" for source, target in self.pip_mounts()]
        dockerfile = f"deploy/{name}.Dockerfile"
        self(
            "bud", "--isolation=chroot", "--format=docker", *mounts, *args, "-f", dockerfile, "-t", f"{name}:test", "."
        )
        return f"{name}:test"

    def start(self, container: str, *command: str, env: dict[str, str], mounts: dict[Path, str]) -> subprocess.Popen:
        """As an orchestrator starts it: the image's own user, its entrypoint named by the caller."""
        args = [f"--env={name}={value}" for name, value in env.items()]
        args += [f"--volume={source}:{target}" for source, target in mounts.items()]
        run = ["buildah", *self._store, "run", "--isolation=chroot", *args, container, "--", *command]
        with (self.home / f"{container}-{command[0].rpartition('/')[2]}.log").open("ab") as log:
            return subprocess.Popen(run, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)

    def pip_mounts(self) -> list[tuple[Path, str]]:
        """What this machine's pip is told of (mirrors, folders of wheels, certificates) holds inside a build too."""
        said = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
        options = dict(line.partition("=")[::2] for line in said.splitlines())
        told = {name.rpartition(".")[2]: ast.literal_eval(value) for name, value in options.items()}
        (self.home / "pip.conf").write_text("[global]\n" + "".join(f"{name} = {told[name]}\n" for name in told))
        words = " ".join(told.values()).split()
        # An index of files names wheels that lie beside it.
        places = {Path(word.removeprefix("file://")).parent for word in words if word.startswith("file://")}
        places |= {Path(word) for word in words if word.startswith("/") and Path(word).exists()}
        return [(self.home / "pip.conf", "/etc/pip.conf"), *((place, str(place)) for place in sorted(places))]


@pytest.fixture(scope="session")
def buildah() -> Iterator[Buildah]:
    for tool in ("buildah", "mmdebstrap"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool}: images are not built without it")
    # Not below pytest's own folders: those are kept over several runs, and a store is gigabytes.
    home = Path(tempfile.mkdtemp(prefix="images-"))
    home.chmod(0o755)
    yield Buildah(home)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def base(buildah: Buildah) -> str:
    """A Debian with Python, as the official image of Python has it; made once and kept as a file."""
    if named := os.environ.get("BASE"):
        return named
    tar = KEPT / "base.tar"
    if not tar.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        packages = "--include=ca-certificates,python3,python3-venv"
        half = tar.with_suffix(".half.tar")
        subprocess.run(["mmdebstrap", "--quiet", "--variant=apt", packages, "bookworm", str(half)], check=True)
        half.rename(tar)
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, str(tar), "/")
    buildah("config", "--cmd", "python3", container)
    buildah("commit", "--quiet", "--rm", container, OWN_BASE)
    return OWN_BASE


@pytest.fixture(scope="session")
def gateway(buildah: Buildah, base: str) -> str:
    return buildah.build("gateway", f"--build-arg=BASE={base}")


@pytest.fixture(scope="session")
def worker(buildah: Buildah, base: str) -> str:
    return buildah.build("worker", f"--build-arg=BASE={base}", "--build-arg=TORCH=cpu", "--build-arg=COMPILER=")


@pytest.fixture(scope="session")
def container(buildah: Buildah) -> Callable[[str], str]:
    """One container of each image for the whole run: a copy of it takes as long as its size says."""

    @cache
    def of(image: str) -> str:
        return buildah("from", "--pull-never", f"localhost/{image}")

    return of


def config_of(buildah: Buildah, image: str) -> dict:
    return json.loads(buildah("inspect", "--type=image", image))["Docker"]["config"]


def stop(process: subprocess.Popen, timeout_s: float) -> int:
    """SIGTERM for the container's first process, as an orchestrator does; buildah itself passes nothing on."""
    os.kill(first_inside(process), signal.SIGTERM)
    try:
        return process.wait(timeout_s)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def first_inside(process: subprocess.Popen) -> int:
    """The first descendant that is not buildah's own."""
    near = [process.pid]
    while near:
        pid = near.pop(0)
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if command and not command.startswith(b"buildah"):
            return pid
        # Go starts children from any of its threads.
        for task in Path(f"/proc/{pid}/task").iterdir():
            near += [int(word) for word in (task / "children").read_text().split()]
    raise RuntimeError("nothing runs in the container")
