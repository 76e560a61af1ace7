"""API keys: `id.secret`, shown once, kept sealed under a master key that lives outside Redis."""

import asyncio
import hashlib
import hmac
import secrets
import string
import time
import zlib
from collections.abc import Awaitable
from typing import cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from redis.asyncio import Redis

from video_jobs import keys
from video_jobs.job import Frozen

PREFIX = "cvx-"
LETTERS = string.digits + string.ascii_letters
ID_LENGTH, SECRET_LENGTH, CHECK_LENGTH = 16, 43, 6
CACHE_SECONDS = 3.0


class MasterKeyLost(Exception):
    """This API key was sealed under another master key: restore that file, or make a new API key."""

    def __init__(self, sealed_by: str) -> None:
        super().__init__(f"{self.__doc__} (sealed under master key {sealed_by})")


class ApiKey(Frozen):
    id: str
    tenant: str
    name: str
    secret: bytes = b""


class KeyRing:
    def __init__(self, redis: Redis, master: bytes) -> None:
        self._redis = redis
        self._cipher = AESGCM(master)
        self._master_id = hashlib.sha256(b"master key id" + master).hexdigest()[:8]
        self._cache: dict[str, tuple[float, ApiKey | None]] = {}
        decoy = self._record("", "", "", _letters(SECRET_LENGTH + CHECK_LENGTH))
        self._decoy = {name.encode(): value.encode() for name, value in decoy.items()}

    async def create(self, tenant: str, name: str) -> str:
        """A new key, whole; it is never shown again."""
        key_id = PREFIX + _letters(ID_LENGTH)
        body = _letters(SECRET_LENGTH)
        secret = body + checksum(body)
        record = self._record(key_id, tenant, name, secret)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(keys.api_key(key_id), mapping=record)
            pipe.sadd(keys.API_KEYS, key_id)
            await pipe.execute()
        return f"{key_id}.{secret}"

    async def find(self, key_id: str) -> ApiKey | None:
        """The key of this id with its secret opened, or None. Remembered for a few seconds."""
        known = self._cache.get(key_id)
        if known and known[0] > time.monotonic():
            return known[1]
        fields = await cast(Awaitable[dict[bytes, bytes]], self._redis.hgetall(keys.api_key(key_id)))
        # An unknown id costs what a known one does: a record is opened either way, and the answer remembered.
        opened = self._open(key_id, fields) if fields else self._open("", self._decoy)
        key = opened if fields else None
        if len(self._cache) > 10_000:
            self._cache.clear()
        self._cache[key_id] = (time.monotonic() + CACHE_SECONDS, key)
        return key

    async def list(self) -> list[ApiKey]:
        """All keys, without their secrets."""
        ids = sorted(await cast(Awaitable[set[bytes]], self._redis.smembers(keys.API_KEYS)))
        found = await asyncio.gather(
            *(cast(Awaitable[list[bytes]], self._redis.hmget(_key(i), ["tenant", "name"])) for i in ids)
        )
        return [
            ApiKey(id=key_id.decode(), tenant=tenant.decode(), name=name.decode())
            for key_id, (tenant, name) in zip(ids, found, strict=True)
            if tenant
        ]

    async def revoke(self, key_id: str) -> bool:
        """Forget a key; False if there was none. Gateways follow within seconds."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(keys.api_key(key_id))
            pipe.srem(keys.API_KEYS, key_id)
            return bool((await pipe.execute())[0])

    def _record(self, key_id: str, tenant: str, name: str, secret: str) -> dict[str, str]:
        nonce = secrets.token_bytes(12)
        sealed = nonce + self._cipher.encrypt(nonce, secret.encode(), key_id.encode())
        return {
            "tenant": tenant,
            "name": name,
            "created": str(int(time.time())),
            "master": self._master_id,
            "sealed": sealed.hex(),
        }

    def _open(self, key_id: str, fields: dict[bytes, bytes]) -> ApiKey:
        sealed = bytes.fromhex(fields[b"sealed"].decode())
        try:
            secret = self._cipher.decrypt(sealed[:12], sealed[12:], key_id.encode())
        except InvalidTag as exc:
            raise MasterKeyLost(fields[b"master"].decode()) from exc
        return ApiKey(id=key_id, tenant=fields[b"tenant"].decode(), name=fields[b"name"].decode(), secret=secret)


def checksum(body: str) -> str:
    """Six letters that tell a mistyped or made-up secret from a real one without asking anybody."""
    number, letters = zlib.crc32(body.encode()), ""
    for _ in range(CHECK_LENGTH):
        number, digit = divmod(number, len(LETTERS))
        letters = LETTERS[digit] + letters
    return letters


def is_same(first: bytes, second: bytes) -> bool:
    return hmac.compare_digest(first, second)


def _key(key_id: bytes) -> str:
    return keys.api_key(key_id.decode())


def _letters(count: int) -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(count))
