"""The sweep for secrets: keys, tokens and signed links are used, and misused, and then stand nowhere."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from redis.asyncio import Redis

from server.grants import KeyTerms, Scope
from server.keys import KeyRing
from tests.gateway import Gateway
from tests.ports import free_port
from video_jobs import keys
from video_jobs.job import JobState, Outcome, VideoFile
from video_jobs.limits import Limits, Tenant
from video_jobs.links import secret_file
from video_jobs.logs import redact
from video_jobs.queue import lazy_redis
from video_jobs.results import FolderStore
from video_jobs.store import JobStore
from video_jobs.tenants import TenantBook

BODY = {"model": "cogvideox-2", "prompt": "a cat", "size": "720x480"}
BROUGHT = "0123456789abcdef0123456789abcdef.SecretSecret1234"
KEY_FILES = {"master.key", "link.key", "audit.key"}


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = lazy_redis(redis_url)
    yield client
    await client.aclose()


def token(key: str, **claims: Any) -> str:
    key_id, _, secret = key.partition(".")
    now = int(time.time() * 1000)
    payload = {"api_key": key_id, "exp": now + 200_000, "timestamp": now} | claims
    return jwt.encode(payload, secret, "HS256", headers={"sign_type": "SIGN"})


@pytest.mark.filterwarnings("ignore:The HMAC key is 16 bytes long")
async def test_no_secret_stands_anywhere(redis_url: str, redis: Redis, tmp_path: Path) -> None:
    metrics = free_port()
    gateway = await asyncio.to_thread(
        lambda: Gateway(redis_url, tmp_path, METRICS_PORT=str(metrics), LOG_LEVEL="DEBUG")
    )
    ring = KeyRing(redis, secret_file(tmp_path / "master.key"))
    await ring.take_in(BROUGHT, "acme", "brought along")
    admin = await ring.create("operators", "", KeyTerms(scopes=frozenset({Scope.ADMIN})))
    foreign = await KeyRing(redis, b"x" * 32).create("acme", "sealed under another master key")
    planted = [gateway.key, BROUGHT, admin, foreign]
    tokens = [token(gateway.key), token(BROUGHT), token(gateway.key, exp=1)]
    with gateway:
        async with httpx2.AsyncClient(timeout=30) as client:
            planted += await use_keys(client, gateway, admin, [*planted, *tokens])
            links = await use_links(client, gateway, redis, tmp_path)
            await misuse(client, gateway, [*planted, *tokens, *links])
            page = (await client.get(f"http://127.0.0.1:{metrics}/metrics")).text

    secrets = {part for key in planted for part in (key, key.partition(".")[2])}
    secrets |= {part for item in tokens for part in (item, item.rpartition(".")[2])}
    secrets |= {httpx2.URL(link).params["signature"] for link in links}
    assert len(secrets) >= 16
    log = (tmp_path / "gateway.log").read_text()
    assert log.count("\n") > 5, "there is a log to look through"
    places = {"log": log, "metrics": page} | await everything_in(redis) | files_under(tmp_path)
    assert any(name.startswith(keys.AUDIT) for name in places)
    assert any(BROUGHT.partition(".")[0] in text for text in places.values()), "the sweep finds what is there"
    assert sorted({name for name, text in places.items() for secret in secrets if secret in text}) == []


async def use_keys(client: httpx2.AsyncClient, gateway: Gateway, admin: str, planted: list[str]) -> list[str]:
    """As clients do; the keys that the operators' API shows."""
    for secret in planted:
        for header in (secret, f"Bearer {secret}"):
            await client.post(f"{gateway.api}/videos/generations", json=BODY, headers={"Authorization": header})
            await client.get(f"{gateway.api}/async-result/1", headers={"Authorization": header})
    base, headers = f"{gateway.url}/admin/v1", {"Authorization": admin}
    made = (await client.post(f"{base}/tenants/acme/keys", json={}, headers=headers)).json()
    rolled = (await client.post(f"{base}/keys/{made['id']}/roll", json={}, headers=headers)).json()
    brought = "ffffffffffffffffffffffffffffffff.AnotherSecret123"
    for _ in range(2):
        await client.post(f"{base}/tenants/acme/keys/import", json={"key": brought}, headers=headers)
    await client.get(f"{base}/tenants/acme/keys", headers=headers)
    return [made["key"], rolled["key"], brought]


async def use_links(client: httpx2.AsyncClient, gateway: Gateway, redis: Redis, state: Path) -> list[str]:
    """A finished video's links, as they were answered and with a wrong signature."""
    headers = {"Authorization": gateway.key}
    # What the planted keys made stands before it.
    store, task = JobStore(redis), ""
    while claim := await store.claim("worker", ["tiny"]):
        clip = state / "clip"
        clip.write_bytes(b"frames")
        home, task = f"videos/{claim.job_id}/1", claim.job_id
        video = VideoFile(key=f"{home}/video.mp4", cover_key=f"{home}/cover.jpg", size_bytes=6, sha256="0")
        results = FolderStore(state / "results")
        for key in (video.key, video.cover_key):
            results.put(key, clip, "video/mp4")
        await store.finish(claim, Outcome(state=JobState.SUCCEEDED, video=video))
    result = (await client.get(f"{gateway.api}/async-result/{task}", headers=headers)).json()["video_result"][0]
    links = [result["url"], result["cover_image_url"]]
    for link in links:
        assert (await client.get(link)).status_code == 200
    return links


async def misuse(client: httpx2.AsyncClient, gateway: Gateway, planted: list[str]) -> None:
    """Secrets where they do not belong: in paths and queries, in methods' errors, past a limit, with Redis in pain."""
    book = TenantBook(JobStore(lazy_redis(gateway.redis_url)))
    for secret in planted:
        for path in (
            f"{gateway.api}/async-result/{secret}",
            f"{gateway.url}/admin/v1/keys/{secret}",
            f"{gateway.url}/{secret}",
        ):
            for method in ("GET", "DELETE", "POST"):
                await client.request(method, path, headers={"Authorization": secret}, params={"api_key": secret})
        broken = f'{{"model": "cogvideox-2", "api_key": "{secret}", '.encode()
        await client.post(f"{gateway.api}/videos/generations", content=broken, headers={"Authorization": gateway.key})
    await book.put_tenant("acme", Tenant(limits=Limits(requests_per_minute=1, reads_per_minute=1)))
    for secret in planted:
        await client.post(f"{gateway.api}/videos/generations", json=BODY, headers={"Authorization": secret})
        await client.get(f"{gateway.api}/models", headers={"Authorization": secret})
    await book.redis.aclose()


async def everything_in(redis: Redis) -> dict[str, str]:
    """Every key's name and whole content."""
    found: dict[str, str] = {}
    async for raw in redis.scan_iter():
        name = raw.decode()
        kind = (await redis.type(raw)).decode()
        read: dict[str, Callable[[], Any]] = {
            "string": lambda raw=raw: redis.get(raw),
            "hash": lambda raw=raw: redis.hgetall(raw),
            "list": lambda raw=raw: redis.lrange(raw, 0, -1),
            "set": lambda raw=raw: redis.smembers(raw),
            "zset": lambda raw=raw: redis.zrange(raw, 0, -1),
        }
        found[name] = f"{name} {await read[kind]()!r}"
    return found


def files_under(state: Path) -> dict[str, str]:
    """What the state folder holds besides its own keys."""
    files = (path for path in state.rglob("*") if path.is_file() and path.name not in KEY_FILES)
    return {str(path): path.read_text(errors="replace") for path in files}


def test_log_lines_lose_every_form_of_secret() -> None:
    own = f"cvx-{'A' * 16}.{'b' * 49}"
    links = "?signature=00ff&x=1 X-Amz-Signature=00ff X-Amz-Security-Token=abc%2F"
    shown = redact(f"{own} {BROUGHT} eyJhbGciOi.eyJhcGlfa2V5.c2ln {links}")

    assert shown.count("[secret]") == 6
    assert not [part for part in (own, BROUGHT, "00ff", "abc%2F") if part in shown]
