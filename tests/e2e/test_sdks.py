"""An unmodified Zhipu SDK asks, and gets a real MP4 of exactly what it asked for."""

import base64
import io
import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

pytestmark = [pytest.mark.e2e, pytest.mark.worker, pytest.mark.timeout(400)]

RABBIT = "比得兔开小汽车，游走在马路上，脸上的表情充满开心喜悦。"
WHOLE = {"quality": "quality", "with_audio": True, "size": "1920x1080", "fps": 30}


def requests(image_url: str) -> dict[str, dict[str, Any]]:
    """Both examples of the official page, and what else a caller may want."""
    with urllib.request.urlopen(image_url) as reply:
        inline = base64.b64encode(reply.read()).decode()
    return {
        "text": {"model": "cogvideox-2", "prompt": RABBIT, **WHOLE},
        "image": {"model": "cogvideox-2", "image_url": image_url, "prompt": "让画面动起来", **WHOLE},
        "small 30": {"model": "cogvideox-2", "prompt": "a cat", "size": "720x480", "fps": 30},
        "small 60": {"model": "cogvideox-2", "prompt": "a cat", "size": "720x480", "fps": 60},
        "long": {"model": "cogvideox-2", "prompt": "a cat", "size": "720x480", "duration": 10},
        "base64": {"model": "cogvideox-2", "image_url": inline, "size": "960x1280"},
        "flash": {"model": "cogvideox-flash", "prompt": "a cat"},
    }


def expected(asked: dict[str, Any]) -> tuple[int, int, int, int]:
    width, _, height = asked.get("size", "1920x1080").partition("x")
    fps = asked.get("fps", 30)
    return int(width), int(height), fps, fps * asked.get("duration", 5)


def fetch(url: str) -> bytes:
    """As anybody would: no key, no header."""
    with urllib.request.urlopen(url) as reply:
        return bytes(reply.read())


def assert_clip(clip: bytes, width: int, height: int, fps: int, frames: int) -> None:
    assert clip.index(b"moov") < clip.index(b"mdat")
    with av.open(io.BytesIO(clip)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.profile, context.pix_fmt) == ("h264", "High", "yuv420p")
        assert (context.width, context.height, stream.average_rate) == (width, height, fps)
        assert container.duration == pytest.approx(frames / fps * 1e6, abs=1e4)
        assert sum(1 for _ in container.decode(stream)) == frames


def test_unmodified_sdk_gets_what_it_asked_for(sdk: tuple[str, Path], service: Any, image_url: str) -> None:
    asked = requests(image_url)
    if sdk[0] == "zai":
        asked = {task: asked[task] for task in ("text", "image")}
    assert_served(sdk, service, asked)


def assert_served(sdk: tuple[str, Path], service: Any, asked: dict[str, Any]) -> None:
    name, python = sdk
    ready = service.ready
    caller = [str(python), str(Path(__file__).parent / "sdk_caller.py"), name, ready["api_key"], ready["base_url"]]

    said = subprocess.run(caller, input=json.dumps(asked), capture_output=True, text=True)

    assert said.returncode == 0, said.stderr
    for task, result in json.loads(said.stdout).items():
        assert result["status"] == "SUCCESS", (task, result)
        width, height, fps, frames = expected(asked[task])
        assert_clip(fetch(result["url"]), width, height, fps, frames)
        with Image.open(io.BytesIO(fetch(result["cover"]))) as cover:
            assert cover.size == (width, height)
