"""`helm test`: its script makes a video with the tiny model, through the whole service, and cleans up after itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

pytest.importorskip("torch")

from tests.e2e.conftest import Service
from video_jobs import keys

from .conftest import CHART, ROOT, Helm, ci_values

pytestmark = [pytest.mark.worker, pytest.mark.e2e, pytest.mark.timeout(500)]


def test_the_script_makes_a_video_and_leaves_no_open_key(redis_url: str, tmp_path: Path, helm: Helm) -> None:
    service = Service(tmp_path / "state", REDIS_URL=redis_url, OMP_NUM_THREADS="2")
    base = service.ready["base_url"].rstrip("/")
    try:
        args = pod_args(helm, base)
        before = keys_of(redis_url)
        command = [sys.executable, "-P", str(CHART / "files" / "make_video.py"), *args]
        master = str(tmp_path / "state" / "master.key")
        ours = {"COGVIDEOX_MASTER_KEY_FILE": master, "COGVIDEOX_REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=os.environ | ours, capture_output=True, text=True, timeout=430)
        after = keys_of(redis_url)
    finally:
        service.stop()

    assert done.returncode == 0, done.stderr
    assert "SUCCESS" in done.stdout
    assert [is_open for key, is_open in after.items() if key not in before] == [False]


def pod_args(helm: Helm, base: str) -> list[str]:
    """The pod's own, with the addresses of this test."""
    pod = helm.install(ci_values("minimal")).one("Pod", "-test")
    args = [arg for arg in pod["spec"]["containers"][0]["args"] if "url=" not in arg and "timeout=" not in arg]
    return [*args, f"--url={base}", f"--public-url={base.removesuffix('/api/paas/v4')}", "--timeout=400"]


def keys_of(url: str) -> dict[str, bool]:
    """Every key's id, and whether it still opens anything."""
    with redis.Redis(unix_socket_path=url.removeprefix("unix://"), decode_responses=True) as client:
        ids = client.smembers(keys.API_KEYS)
        return {key: bool(client.hexists(keys.api_key(key), "sealed")) for key in ids}  # type: ignore[union-attr]
