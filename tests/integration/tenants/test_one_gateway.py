"""A gateway as operators set it up: a port of its own for them, and tenants from a file."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from server.grants import KeyTerms, Scope
from server.keys import KeyRing
from tests.gateway import ROOT, Gateway
from tests.ports import free_port
from video_jobs.links import secret_file
from video_jobs.queue import lazy_redis

FILE = "plans: {studio: {weight: 4, limits: {queued: 20}}}\ntenants: {acme: {plan: studio}}\n"
pytestmark = pytest.mark.timeout(120)


async def admin_key(redis_url: str, state: Path) -> str:
    redis = lazy_redis(redis_url)
    try:
        ring = KeyRing(redis, secret_file(state / "master.key"))
        return await ring.create("operators", "", KeyTerms(scopes=frozenset({Scope.ADMIN})))
    finally:
        await redis.aclose()


def test_operators_have_a_socket_and_a_file_of_their_own(redis_url: str, tmp_path: Path) -> None:
    path, admin_port = tmp_path / "tenants.yaml", free_port()
    path.write_text(FILE)
    key = asyncio.run(admin_key(redis_url, tmp_path))
    with (
        Gateway(redis_url, tmp_path, ADMIN_PORT=str(admin_port), TENANTS_FILE=str(path)) as gateway,
        httpx2.Client(headers={"Authorization": key}, timeout=30) as client,
    ):
        operators = f"http://127.0.0.1:{admin_port}"
        # The file is applied by and by, once Redis answers.
        deadline = time.monotonic() + 20
        while (said := client.get(f"{operators}/admin/v1/tenants/acme")).is_error and time.monotonic() < deadline:
            time.sleep(0.1)
        shown = said.json()
        misled = client.get(f"{gateway.url}/admin/v1/tenants", headers={"Host": f"127.0.0.1:{admin_port}"})
        tenants = client.get(f"{operators}/api/paas/v4/async-result/1", headers={"Authorization": gateway.key})
        healthy = [client.get(f"{url}/healthz").status_code for url in (operators, gateway.url)]

    assert (shown["terms"]["weight"], shown["terms"]["limits"]["queued"]) == (4, 20)
    assert misled.status_code == tenants.status_code == 404
    assert healthy == [200, 200]


@pytest.mark.parametrize("text", ["plans: [", "tenants: {acme: {plans: x}}", None])
def test_bad_file_of_tenants_is_told_before_anything_is_served(
    redis_url: str, tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "tenants.yaml"
    if text is not None:
        path.write_text(text)
    told = {"COGVIDEOX_TENANTS_FILE": str(path), "COGVIDEOX_REDIS_URL": redis_url, "COGVIDEOX_STATE": str(tmp_path)}
    command = [sys.executable, "-P", "-m", "server"]
    done = subprocess.run(
        command, env=os.environ | told | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("COGVIDEOX_TENANTS_FILE: ")
