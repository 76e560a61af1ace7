"""A person without an SDK: `cogvideox-server jobs` from submit to a file on disk."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

pytestmark = [pytest.mark.e2e, pytest.mark.worker, pytest.mark.timeout(200)]


class Jobs:
    def __init__(self, ready: dict[str, Any], folder: Path) -> None:
        self._environment = os.environ | {"COGVIDEOX_URL": ready["base_url"], "COGVIDEOX_API_KEY": ready["api_key"]}
        self._folder = folder

    def __call__(self, *args: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-P", "-m", "cogvideox_server", "jobs", *args]
        environment = self._environment | {"PYTHONPATH": str(Path(__file__).parents[2])}
        return subprocess.run(command, env=environment, cwd=self._folder, capture_output=True, text=True)


@pytest.fixture
def jobs(service: Any, tmp_path: Path) -> Jobs:
    return Jobs(service.ready, tmp_path)


def test_from_submit_to_a_file(jobs: Jobs, tmp_path: Path) -> None:
    Image.linear_gradient("L").save(tmp_path / "first.png")
    submitted = jobs("submit", "a cat", "--image", "first.png", "--size", "720x480", "--watch")
    task = submitted.stderr.splitlines()[0]

    assert submitted.returncode == 0, submitted.stderr
    assert submitted.stdout.startswith("http://127.0.0.1")
    assert json.loads(jobs("show", task, "--json").stdout)["task_status"] == "SUCCESS"
    assert task in jobs("list").stdout
    assert jobs("download", task, "--to", "clip.mp4").returncode == 0
    assert jobs("download", task, "--cover").returncode == 0
    with av.open(tmp_path / "clip.mp4") as clip:
        assert clip.streams.video[0].frames == 150
    with Image.open(tmp_path / f"{task}.jpg") as cover:
        assert cover.size == (720, 480)
    assert jobs("cancel", task).stdout == "deleted\n"
    assert jobs("download", task).returncode == 1


def test_a_running_task_is_cancelled(jobs: Jobs) -> None:
    task = jobs("submit", "a cat", "--quality", "quality", "--duration", "10").stdout.strip()

    assert jobs("cancel", task).stdout in ("cancelled\n", "asked to stop\n")
    watched = jobs("watch", task)
    assert watched.returncode == 1
    assert "cancelled" in watched.stderr
    assert "Traceback" not in watched.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        ["submit", "a cat", "--size", "1x1"],
        ["submit", "a cat", "--image", "none.png"],
        ["show", "123"],
        ["list", "--key", "wrong"],
        ["list", "--url", "http://127.0.0.1:9/api/paas/v4/"],
    ],
)
def test_what_goes_wrong_is_one_line(wrong: list[str], jobs: Jobs) -> None:
    said = jobs(*wrong)

    assert said.returncode == 1
    assert said.stderr.startswith("cogvideox-server jobs: ")
    assert len(said.stderr.splitlines()) == 1
