"""The real nginx with deploy/nginx.conf, before a server that tells what it was asked."""

import http.client
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from server.body import TURN_SECONDS
from server.images import INTAKE_SECONDS
from server.settings import GatewaySettings

ROOT = Path(__file__).parents[3]
CONF = ROOT / "deploy" / "nginx.conf"
RATE = "rate=50r/s"
API = "/api/paas/v4/videos/generations"


class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        received = len(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        body = json.dumps({"path": self.path, "received": received, "headers": dict(self.headers)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST  # noqa: N815  # the server's name


class Proxy:
    def __init__(self, port: int, log: Path) -> None:
        self.port, self.log = port, log

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("POST" if body is not None else "GET", path, body, headers)
            reply = connection.getresponse()
            content = reply.read()
        finally:
            connection.close()
        return reply.status, json.loads(content) if reply.status == 200 else {}

    def logged(self) -> list[str]:
        """The lines of the access log, once there are any: they are written after the answer."""
        deadline = time.monotonic() + 10
        while not (lines := self.log.read_text().splitlines()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return lines


@pytest.fixture
def proxy(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """The file as it is, but for addresses and folders that only its container has."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        pytest.skip("nginx: deploy/nginx.conf is not tried without it")
    with socket.socket() as probe, ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as upstream:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        threading.Thread(target=upstream.serve_forever, daemon=True).start()
        probe.close()
        said = CONF.read_text().replace("http://gateway:8000", f"http://127.0.0.1:{upstream.server_port}")
        said = re.sub(r"\n *resolver [^;]*;", "", said).replace("listen 8080", f"listen 127.0.0.1:{port}")
        said = said.replace(RATE, getattr(request, "param", RATE))
        said = said.replace("/tmp/", f"{tmp_path}/").replace("/dev/stdout", f"{tmp_path}/access.log")
        (tmp_path / "nginx.conf").write_text("daemon off;\nuser root;\n" + said)
        command = [nginx, "-e", "stderr", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
        with (tmp_path / "error.log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
            wait_for(port, tmp_path / "error.log")
            yield Proxy(port, tmp_path / "access.log")
            process.terminate()
        upstream.shutdown()


def wait_for(port: int, log: Path) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(log.read_text())


def test_the_largest_body_of_the_gateway_passes_and_no_much_larger_one(proxy: Proxy) -> None:
    limit = GatewaySettings.model_fields["max_body_bytes"].default

    assert proxy.ask(API, b"x" * (limit + 1))[1]["received"] == limit + 1
    assert proxy.ask(API, b"x" * (9 << 20))[0] == 413


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/readyz", "/openapi.json", "/api/paas/v4", "/files"])
def test_only_the_api_and_result_links_are_let_in(proxy: Proxy, path: str) -> None:
    assert proxy.ask(path)[0] == 404


def test_links_pass_with_their_signature_and_leave_none_in_the_log(proxy: Proxy) -> None:
    status, seen = proxy.ask("/files/videos/a.mp4?expires=1&signature=s3cret")

    assert (status, seen["path"]) == (200, "/files/videos/a.mp4?expires=1&signature=s3cret")
    lines = [line for line in proxy.logged() if "/files/" in line]
    assert json.loads(lines[0])["path"] == "/files/videos/a.mp4"
    assert "s3cret" not in proxy.log.read_text()


def test_a_caller_cannot_say_where_it_comes_from(proxy: Proxy) -> None:
    headers = proxy.ask(API, b"{}", **{"X-Forwarded-For": "8.8.8.8", "X-Forwarded-Proto": "https"})[1]["headers"]

    assert headers["X-Forwarded-For"] == "127.0.0.1"
    assert headers["X-Forwarded-Proto"] == "http"


@pytest.mark.parametrize("proxy", ["rate=1r/s"], indirect=True)
def test_a_flood_from_one_address_is_held_back(proxy: Proxy) -> None:
    """At a lower rate than the file's: a loaded machine asks too slowly to outrun that one."""
    statuses = [proxy.ask(API)[0] for _ in range(300)]

    assert statuses[:100] == [200] * 100
    assert 429 in statuses
    assert RATE in CONF.read_text()


def test_the_proxy_waits_longer_than_the_gateway() -> None:
    fields, said = GatewaySettings.model_fields, CONF.read_text()
    longest = fields["body_seconds"].default + TURN_SECONDS + INTAKE_SECONDS
    api = said[said.index("location /api") :].partition("}")[0]

    assert int(re.findall(r"proxy_read_timeout (\d+)s", api)[0]) >= longest + 10
    assert f"location {fields['prefix'].default}/ {{" in said
