"""Every client against one gateway process: the real SDKs from their venvs, the others by shape."""

import asyncio
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
from video_jobs.job import JobState, Outcome, VideoFile
from video_jobs.queue import lazy_redis
from video_jobs.store import JobStore

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
RENDER_SECONDS = 0.3
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
        with stand_in_worker(gateway):
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


@contextlib.contextmanager
def stand_in_worker(gateway: Gateway) -> Iterator[None]:
    """Ends each job as its prompt asks, after a moment, by the same calls that a worker makes."""
    for name in ("video.mp4", "cover.jpg"):
        file = gateway.state / "results" / "videos" / "made" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(1000))
    over = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_work(gateway.redis_url, over)))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def _work(redis_url: str, over: threading.Event) -> None:
    redis = lazy_redis(redis_url)
    store = JobStore(redis)
    try:
        while not over.is_set():
            claim = await store.claim("worker", ["tiny"])
            if claim is None:
                await asyncio.sleep(0.05)
                continue
            record = await store.get(claim.job_id)
            assert record is not None
            await asyncio.sleep(RENDER_SECONDS)
            await store.finish(claim, _outcome(record.job.spec.prompt))
    finally:
        await redis.aclose()


def _outcome(prompt: str) -> Outcome:
    if "fail" in prompt:
        return Outcome(state=JobState.FAILED, error_code="engine_died", error_message="as asked")
    video = VideoFile(key="videos/made/video.mp4", cover_key="videos/made/cover.jpg", size_bytes=1000, sha256="")
    return Outcome(state=JobState.SUCCEEDED, video=video)
