"""Who is let in: every header that a real client sends, and nothing else."""

import time
from typing import Any

import httpx2
import jwt
import pytest

from server.deps import House
from server.keys import CHECK_LENGTH, checksum

SCALES = {"s": 1, "ms": 1000, "us": 1_000_000}


def token(
    key: str, scale: str = "ms", life_s: float = 210, headers: dict[str, Any] | None = None, **claims: Any
) -> str:
    key_id, secret = key.split(".")
    now, factor = time.time(), SCALES[scale]
    payload = {"api_key": key_id, "exp": int((now + life_s) * factor), "timestamp": int(now * factor)} | claims
    return jwt.encode(payload, secret, "HS256", headers=headers or {"sign_type": "SIGN"})


async def status(client: httpx2.AsyncClient, header: str | None) -> tuple[int, str]:
    client.headers.pop("Authorization", None)
    reply = await client.get("/async-result/1", headers={"Authorization": header} if header is not None else {})
    return reply.status_code, reply.json()["error"]["code"]


LET_IN = (400, "1214")


async def test_raw_key_opens_with_and_without_bearer(client: httpx2.AsyncClient, key: str) -> None:
    assert {await status(client, header) for header in (f"Bearer {key}", key, f"bearer  {key}")} == {LET_IN}


@pytest.mark.parametrize("scale", SCALES)
async def test_token_opens_in_every_unit_of_time(client: httpx2.AsyncClient, key: str, scale: str) -> None:
    assert await status(client, f"Bearer {token(key, scale)}") == LET_IN
    assert await status(client, token(key, scale)) == LET_IN
    assert await status(client, token(key, scale, life_s=-365 * 86_400)) == (401, "1003")


async def test_token_lives_a_week_at_most(client: httpx2.AsyncClient, key: str) -> None:
    assert await status(client, token(key, life_s=7 * 86_400)) == LET_IN
    assert await status(client, token(key, life_s=8 * 86_400)) == (401, "1000")
    assert await status(client, token(key, life_s=-30, timestamp=int(time.time() * 1000) - 210_000)) == LET_IN


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": True},
        {"exp": "x"},
        {"exp": None},
        {"exp": -1},
        {"exp": 1.5},
        {"exp": 10**30},
        {"api_key": 5},
        {"api_key": "\ud800"},
    ],
)
async def test_token_with_strange_claims_is_refused(
    client: httpx2.AsyncClient, key: str, claims: dict[str, Any]
) -> None:
    assert await status(client, token(key, **claims)) == (401, "1000")


async def test_forged_tokens_are_refused(client: httpx2.AsyncClient, house: House, key: str) -> None:
    other = await house.ring.create("globex", "other")
    key_id = key.split(".")[0]
    claims = {"api_key": key_id, "exp": int(time.time()) + 60}
    forged = [
        token(f"{key_id}.{other.split('.')[1]}"),
        token(f"cvx-{'0' * 16}.{key.split('.')[1]}"),
        jwt.encode(claims, "", "none"),
        jwt.encode(claims, key.split(".")[1], "HS384"),
        token(key, headers={"kid": "../../etc/passwd"}),
        token(key)[:-4],
        "a.b.c",
        "..",
        "x" * 5000,
    ]

    answers = [await status(client, header) for header in forged]
    assert set(answers) == {(401, "1000")}


async def test_missing_wrong_and_unknown_keys_are_told_apart_only_as_documented(
    client: httpx2.AsyncClient, key: str
) -> None:
    assert await status(client, None) == (401, "1001")
    assert await status(client, "") == (401, "1001")
    assert await status(client, "Bearer ") == (401, "1000")
    assert await status(client, key[:-1] + "x") == (401, "1000")
    assert await status(client, "nobody.nothing") == (401, "1000")


async def test_revoked_key_stops_opening(client: httpx2.AsyncClient, house: House, key: str) -> None:
    assert await house.ring.revoke(key.split(".")[0])
    house.ring._cache.clear()

    assert await status(client, key) == (401, "1000")
    assert [known.state for known in await house.ring.list()] == ["revoked"]
    assert not await house.ring.revoke(key.split(".")[0])


async def test_key_has_its_final_form(house: House) -> None:
    key_id, secret = (await house.ring.create("acme", "form")).split(".")

    assert key_id.startswith("cvx-")
    assert checksum(secret[:-CHECK_LENGTH]) == secret[-CHECK_LENGTH:]
    assert len(secret) == 49
    sealed = await house.redis.hgetall(f"{{cogvideox}}:api-key:{key_id}")
    assert secret.encode() not in b"".join(sealed.values())
