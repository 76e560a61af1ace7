"""The whole service through its one command, and the unmodified SDKs, each in a venv of its own."""

import http.server
import json
import os
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
# Both import sniffio, which their own requirements used to bring along and no longer do.
SDKS = {"zhipuai": ["zhipuai==2.1.5.20250825", "sniffio"], "zai": ["zai-sdk==0.2.3", "sniffio"]}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """A file server that says nothing."""


@pytest.fixture(scope="session")
def image_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("images")
    Image.linear_gradient("L").resize((400, 300)).convert("RGB").save(folder / "first.png")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/first.png"
        server.shutdown()


class Service:
    """`cogvideox-server up`, started and stopped as a user would."""

    def __init__(self, state: Path, cwd: Path = ROOT, **environment: str) -> None:
        command = [sys.executable, "-P", "-m", "cogvideox_server", "up", "--json", "--port", "0", "--state", str(state)]
        self.errors = (state.parent / f"{state.name}.log").open("wb")
        self.process = subprocess.Popen(
            command, env={**os.environ, **environment}, cwd=cwd, stdout=subprocess.PIPE, stderr=self.errors
        )
        assert self.process.stdout is not None
        self.ready: dict[str, Any] = json.loads(self.process.stdout.readline() or "{}")
        assert self.ready, Path(self.errors.name).read_text()[-4000:]

    def stop(self) -> int:
        self.process.terminate()
        return self._close()

    def kill(self) -> int:
        self.process.kill()
        return self._close()

    def _close(self) -> int:
        status = self.process.wait(40)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.errors.close()
        return status


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, image_url: str) -> Iterator[Service]:
    allowed = image_url.removeprefix("http://").partition("/")[0]
    service = Service(tmp_path_factory.mktemp("service") / "state", COGVIDEOX_IMAGE_ALLOW=allowed)
    yield service
    service.stop()


def sdk_python(name: str) -> Path:
    """The interpreter of a venv that holds only this SDK; made once and kept."""
    home = ROOT / ".venvs" / name
    python = home / "bin" / "python"
    if not (home / ".installed").exists():
        venv.create(home, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *SDKS[name]]
        subprocess.run(install, check=True)
        (home / ".installed").touch()
    return python


@pytest.fixture(scope="session", params=SDKS)
def sdk(request: pytest.FixtureRequest) -> tuple[str, Path]:
    return request.param, sdk_python(request.param)
