"""The images as they are built: small, without root, without secrets, with their bill of materials; and they render."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cogvideox_server.redis import redis_binary
from tests.ports import free_port

from .conftest import ROOT, USER, Buildah, config_of, first_inside, stop

# Building takes minutes; the whole chain runs inside the first test that asks for it.
pytestmark = pytest.mark.timeout(3600)
IMAGES = ("gateway", "worker")
MAKE_VIDEO = ROOT / "helm" / "cogvideox-server" / "files" / "make_video.py"
RESULTS = "/var/lib/cogvideox/results"


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(str(request.param)))


@pytest.fixture
def inside(buildah: Buildah, image: str, container: Callable[[str], str]) -> Path:
    """The files of an image."""
    return Path(buildah("mount", container(image)))


def test_images_run_without_root_and_say_what_they_are(buildah: Buildah, image: str) -> None:
    config = config_of(buildah, f"localhost/{image}")
    name = image.partition(":")[0]

    assert config["User"] == f"{USER}:{USER}"
    assert (config["Entrypoint"], config["Cmd"]) == (["cogvideox-server"], [name])
    assert config["Labels"]["org.opencontainers.image.title"] == f"CogVideoX Server: {name}"
    assert "/healthz" in config["Healthcheck"]["Test"][-1]


def test_what_is_in_an_image_is_in_its_bill_of_materials(inside: Path, image: str) -> None:
    bill = json.loads((inside / "opt/venv/sbom.cdx.json").read_text())
    named = {re.sub(r"[-_.]+", "-", part["name"]).lower() for part in bill["components"]}
    folders = (inside / "opt/venv/lib").glob("python3.*/site-packages/*.dist-info")
    installed = {re.sub(r"[-_.]+", "-", path.name.partition("-")[0]).lower() for path in folders}

    assert bill["bomFormat"] == "CycloneDX"
    assert len(installed) > 30
    assert installed <= named
    assert ("torch" in named) == image.startswith("worker")


def test_no_compiler_no_pip_and_nothing_of_ours_that_its_user_may_change(inside: Path) -> None:
    assert not list((inside / "opt/venv/bin").glob("pip*"))
    assert not list((inside / "usr/bin").glob("gcc*"))
    writable = [path for path in (inside / "opt/venv").rglob("*") if not path.is_symlink() and is_writable(path)]
    assert writable == []
    assert (inside / "var/lib/cogvideox").stat().st_uid == USER


def is_writable(path: Path) -> bool:
    facts = path.stat()
    return facts.st_uid == USER or facts.st_gid == USER or bool(facts.st_mode & 0o002)


def test_no_sources_tests_or_keys_came_along(inside: Path) -> None:
    assert not (inside / "src").exists()
    assert not [path for path in (inside / "opt").rglob("tests") if (path / "chart").exists()]
    assert not [path for path in inside.rglob("*.key") if "site-packages" not in str(path) and path.is_file()]


def test_the_gateway_is_small(buildah: Buildah, gateway: str, worker: str, base: str) -> None:
    sizes = {image: size_of(buildah, image) for image in (base, gateway, worker)}

    for image, size in sizes.items():
        print(f"\n{image}: {size / 1e6:.0f} MB, {(size - sizes[base]) / 1e6:.0f} MB of it ours")
    assert sizes[gateway] - sizes[base] < 250e6


def size_of(buildah: Buildah, image: str) -> float:
    """As buildah tells it: `360 MB`."""
    (said,) = json.loads(buildah("images", "--json", image))
    number, unit = said["size"].split()
    return float(number) * {"KB": 1e3, "MB": 1e6, "GB": 1e9}[unit]


@pytest.fixture
def redis_port(tmp_path: Path) -> Iterator[int]:
    port = free_port()
    args = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path), "--save", ""]
    args += ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]
    with (tmp_path / "redis.log").open("wb") as log, subprocess.Popen([redis_binary(), *args], stdout=log) as process:
        yield port
        process.terminate()


def test_a_gateway_and_a_worker_make_a_video_and_end_when_told(
    buildah: Buildah, gateway: str, worker: str, container: Callable[[str], str], redis_port: int
) -> None:
    shared = buildah.home / "shared"
    results, keys = shared / "results", shared / "keys"
    for folder in (results, keys):
        folder.mkdir(parents=True)
        os.chown(folder, USER, USER)
    shutil.copy(MAKE_VIDEO, shared / "make_video.py")
    http, health = free_port(), free_port()
    env = {"COGVIDEOX_REDIS_URL": f"redis://127.0.0.1:{redis_port}/0", "COGVIDEOX_MASTER_KEY_FILE": "/keys/master.key"}
    env |= {"COGVIDEOX_PORT": str(http), "COGVIDEOX_LINK_KEY_FILE": "/keys/link.key", "OMP_NUM_THREADS": "2"}
    env |= {"COGVIDEOX_WORKER_PORT": str(health), "COGVIDEOX_PUBLIC_URL": f"http://127.0.0.1:{http}"}
    # Below /tmp: where the runtime makes the place for a mount, a file would be seen as written.
    mounts = {results: RESULTS, keys: "/keys", shared / "make_video.py": "/tmp/make_video.py"}
    began = time.time()
    with contextlib.ExitStack() as started:

        def start(image: str, *command: str) -> subprocess.Popen:
            process = buildah.start(container(image), *command, env=env, mounts=mounts)
            started.callback(lambda: process.poll() is not None or stop(process, 60))
            return process

        serving = start(gateway, "cogvideox-server", "gateway")
        rendering = start(worker, "cogvideox-server", "worker")
        wait_for(f"http://127.0.0.1:{http}/readyz", 60)
        wait_for(f"http://127.0.0.1:{health}/readyz", 300)
        assert owner_of(serving) == owner_of(rendering) == USER

        base_url = f"--url=http://127.0.0.1:{http}/api/paas/v4"
        asked = [base_url, f"--public-url=http://127.0.0.1:{http}", "--model=cogvideox-2", "--size=720x480"]
        made = start(gateway, "python", "-P", "/tmp/make_video.py", *asked, "--timeout=600")
        assert made.wait(700) == 0, logs(buildah)
        assert list(results.rglob("*.mp4"))

        assert stop(rendering, 40) == 0, logs(buildah)
        # The gateway ends its work, then itself by the signal it was sent: what buildah calls a failure.
        stop(serving, 20)
        assert "Application shutdown complete" in logs(buildah)
    for image in (gateway, worker):
        assert written_since(began, Path(buildah("mount", container(image)))) == []


def written_since(began: float, root: Path) -> list[str]:
    """Files outside the volumes that an orchestrator gives: there are none, so the root can be read-only."""
    given = ("proc", "sys", "dev", "tmp", "run", "var/lib/cogvideox", "etc/hosts", "etc/resolv.conf")
    found = []
    for folder, _, names in os.walk(root):
        for path in (Path(folder) / name for name in names):
            inner = str(path.relative_to(root))
            if not inner.startswith(given) and path.lstat().st_mtime > began:
                found.append(inner)
    return found


def owner_of(process: subprocess.Popen) -> int:
    return Path(f"/proc/{first_inside(process)}").stat().st_uid


def wait_for(url: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.5)


def logs(buildah: Buildah) -> str:
    return "\n".join(f"{path.name}: {path.read_text()[-3000:]}" for path in buildah.home.glob("*.log"))
