"""The whole service through its one command, and the unmodified SDKs, each in a venv of its own."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from PIL import Image

from tests.sdks import sdk_python

pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]


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


def may_fetch(image_url: str) -> dict[str, str]:
    return {"COGVIDEOX_IMAGE_ALLOW": image_url.removeprefix("http://").partition("/")[0]}


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, image_url: str) -> Iterator[Service]:
    """Everything embedded."""
    service = Service(tmp_path_factory.mktemp("service") / "state", **may_fetch(image_url))
    yield service
    service.stop()


@pytest.fixture
def outer_service(redis_url: str, tmp_path: Path, image_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """The same on a Redis of its own and an S3 server, as past one machine."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    credentials = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example"}
    for name, value in credentials.items():
        monkeypatch.setenv(name, value)
    endpoint = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket="videos")
    outer = {"REDIS_URL": redis_url, "COGVIDEOX_STORE": "s3", "COGVIDEOX_S3_BUCKET": "videos"}
    outer |= {"COGVIDEOX_S3_ENDPOINT": endpoint, "COGVIDEOX_S3_PATH_STYLE": "true"}
    service = Service(tmp_path / "state", **may_fetch(image_url), **outer)
    yield service
    service.stop()
    server.stop()


@pytest.fixture(scope="session", params=["zhipuai", "zai"])
def sdk(request: pytest.FixtureRequest) -> tuple[str, Path]:
    return request.param, sdk_python(request.param)
