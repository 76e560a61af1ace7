"""Every client against one gateway process: the real SDKs from their venvs, the others by shape."""

import base64
import contextlib
import http.server
import io
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from tests.compatibility.features import FEATURES, try_all
from tests.compatibility.shapes import SHAPES, ShapeWorld
from tests.gateway import Gateway
from tests.sdks import sdk_python
from tests.standins.ender import stand_in_worker

# Row -> venv, class, and whether it signs tokens.
PYTHON = {
    "zhipuai 2.1.5, key": ("zhipuai", "ZhipuAI", False),
    "zhipuai 2.1.5, JWT": ("zhipuai", "ZhipuAI", True),
    "zhipuai 2.0.1, bare JWT": ("zhipuai-old", "OldZhipuAI", True),
    "zai-sdk 0.2.3 ZaiClient, key": ("zai", "ZaiClient", False),
    "zai-sdk 0.2.3 ZaiClient, JWT": ("zai", "ZaiClient", True),
    "zai-sdk 0.2.3 ZhipuAiClient, key": ("zai", "ZhipuAiClient", False),
    "zai-sdk 0.2.3 ZhipuAiClient, JWT": ("zai", "ZhipuAiClient", True),
}
PROGRAM = Path(__file__).with_name("sdk_program.py")
Matrix = dict[str, dict[str, str]]


def measure(redis_url: str, state: Path) -> Matrix:
    with pictures() as address, Gateway(redis_url, state, IMAGE_ALLOW=address.split("/")[2]) as gateway:
        told = {
            "key": gateway.key,
            "wrong_key": gateway.key[:-1] + ("a" if gateway.key[-1] != "a" else "b"),
            "base": gateway.api,
            "picture": base64.b64encode(picture()).decode(),
            "picture_url": address,
        }
        with stand_in_worker(gateway, render_s=0):
            rows = {name: from_venv(*which, told) for name, which in PYTHON.items()}
            return rows | {name: try_all(ShapeWorld(shape, told)) for name, shape in SHAPES.items()}


def table(matrix: Matrix) -> str:
    rows = [f"| client | {' | '.join(FEATURES)} |", "|---" * (1 + len(FEATURES)) + "|"]
    for name, said in matrix.items():
        rows.append(f"| {name} | {' | '.join(said[feature] for feature in FEATURES)} |")
    return "\n".join(rows)


def from_venv(venv: str, client_name: str, jwt: bool, told: dict[str, str]) -> dict[str, str]:
    asked = json.dumps({**told, "client_name": client_name, "jwt": jwt})
    said = subprocess.run(
        [str(sdk_python(venv)), str(PROGRAM)], input=asked, capture_output=True, text=True, timeout=120
    )
    if said.returncode:
        raise RuntimeError(said.stderr[-3000:])
    answered: dict[str, str] = json.loads(said.stdout)
    return answered


def picture() -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((64, 48)).convert("RGB").save(out, "PNG")
    return out.getvalue()


@contextlib.contextmanager
def pictures() -> Iterator[str]:
    """A file server with one picture; its address."""

    class OnePicture(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(picture())

        def log_message(self, *_: Any) -> None:
            """A file server that says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), OnePicture) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/first.png"
        server.shutdown()
