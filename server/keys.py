"""API keys: `id.secret`, shown once, kept sealed under a master key that lives outside Redis."""

import asyncio
import hashlib
import hmac
import math
import re
import secrets
import string
import time
import zlib
from collections.abc import Awaitable, Iterable
from typing import Any, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from redis.asyncio import Redis
from redis.exceptions import WatchError

from server.grants import ApiKey, KeyTerms
from video_jobs import keys
from video_jobs.limits import NAME
from video_jobs.tenants import BadName

PREFIX = "cvx-"
LETTERS = string.digits + string.ascii_letters
ID_LENGTH, SECRET_LENGTH, CHECK_LENGTH = 16, 43, 6
CACHE_SECONDS = 3.0
WHOLE = re.compile(r"[!-\-/-~]{1,64}\.[!-\-/-~]{16,256}")
NAMES = re.compile(NAME)


class MasterKeyLost(Exception):
    """This API key was sealed under another master key: name it in COGVIDEOX_OLD_KEY_FILES, or make a new API key."""

    def __init__(self, sealed_by: str) -> None:
        super().__init__(f"{self.__doc__} (sealed under master key {sealed_by})")


class BadKey(ValueError):
    """A key is `id.secret`: printable ASCII, one dot, the id up to 64 characters, the secret 16 to 256."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class KeyKnown(ValueError):
    """A key of this id is here already, or was and is revoked."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class KeyRing:
    def __init__(self, redis: Redis, master: bytes, older: Iterable[bytes] = ()) -> None:
        """Older master keys open what they sealed; the newest seals."""
        self._redis = redis
        self._ciphers = {_master_id(key): AESGCM(key) for key in (*older, master)}
        self._master_id = _master_id(master)
        self._cache: dict[str, tuple[float, ApiKey | None]] = {}
        decoy = self._record("", "", "", _letters(SECRET_LENGTH + CHECK_LENGTH), KeyTerms())
        self._decoy = {name.encode(): value.encode() for name, value in decoy.items()}

    async def create(self, tenant: str, name: str = "", terms: KeyTerms = KeyTerms()) -> str:  # noqa: B008  # frozen
        """A new key, whole; it is never shown again."""
        body = _letters(SECRET_LENGTH)
        key_id, secret = PREFIX + _letters(ID_LENGTH), body + checksum(body)
        await self._write(key_id, self._record(key_id, tenant, name, secret, terms))
        return f"{key_id}.{secret}"

    async def take_in(self, whole: str, tenant: str, name: str, terms: KeyTerms = KeyTerms()) -> str:  # noqa: B008
        """Import a key that clients hold already; its id."""
        if not WHOLE.fullmatch(whole):
            raise BadKey
        key_id, _, secret = whole.partition(".")
        await self._write(key_id, self._record(key_id, tenant, name, secret, terms))
        return key_id

    async def roll(self, key_id: str, overlap_s: float) -> str | None:
        """A new key with the same terms; the old one ends after the overlap. None if there is no such open key."""
        old = await self.read(key_id)
        if old is None or old.state != "active":
            return None
        whole = await self.create(old.tenant, old.name, old.terms)
        ends = math.ceil(time.time() + overlap_s)
        terms = old.terms.model_copy(update={"expires": min(ends, old.terms.expires or ends)})
        changed = {"terms": terms.model_dump_json(), "rolled_to": whole.partition(".")[0]}
        await cast(Awaitable[int], self._redis.hset(keys.api_key(key_id), mapping=cast(dict[Any, Any], changed)))
        return whole

    async def revoke(self, key_id: str) -> bool:
        """Forget the secret for good; False if there is none. Gateways follow within seconds."""
        key = await self.read(key_id)
        if key is None or key.revoked:
            return False
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hdel(keys.api_key(key_id), "sealed")
            pipe.hset(keys.api_key(key_id), "revoked", str(int(time.time())))
            return bool((await pipe.execute())[0])

    async def is_elsewhere(self) -> bool:
        """Whether all keys known here were sealed under master keys that we have not: ours may be the wrong one."""
        ids = await cast(Awaitable[set[bytes]], self._redis.smembers(keys.API_KEYS))
        found = await asyncio.gather(*(self._fields(key_id.decode()) for key_id in ids))
        masters = {fields[b"master"].decode() for fields in found if b"sealed" in fields}
        return bool(masters) and not masters & set(self._ciphers)

    async def reseal(self) -> tuple[int, list[str]]:
        """Seal every secret under the newest master key: how many, and which no master key of ours opens."""
        changed, lost = 0, []
        for key_id in sorted(await cast(Awaitable[set[bytes]], self._redis.smembers(keys.API_KEYS))):
            try:
                changed += await self._reseal(key_id.decode())
            except MasterKeyLost:
                lost.append(key_id.decode())
        return changed, lost

    async def find(self, key_id: str) -> ApiKey | None:
        """The key of this id with its secret opened, or None. Remembered for a few seconds."""
        known = self._cache.get(key_id)
        if known and known[0] > time.monotonic():
            return known[1]
        fields = await self._fields(key_id)
        is_known = b"sealed" in fields
        # An unknown id costs what a known one does: a record is opened either way, and the answer remembered.
        opened = self._open(key_id, fields) if is_known else self._open("", self._decoy)
        asked = self._redis.hget(keys.tenancy("tenant", opened.tenant), "enabled")
        is_open = await cast(Awaitable[bytes | None], asked) != b"0"
        key = opened.model_copy(update={"is_tenant_open": is_open}) if is_known else None
        if len(self._cache) > 10_000:
            self._cache.clear()
        self._cache[key_id] = (time.monotonic() + CACHE_SECONDS, key)
        return key

    async def read(self, key_id: str) -> ApiKey | None:
        """The key as an operator sees it, revoked or not."""
        fields = await self._fields(key_id)
        return _describe(key_id, fields) if b"tenant" in fields else None

    async def list(self, tenant: str | None = None) -> list[ApiKey]:
        """All keys, without their secrets; those of one tenant if it is named."""
        ids = sorted(await cast(Awaitable[set[bytes]], self._redis.smembers(keys.API_KEYS)))
        found = await asyncio.gather(*(self.read(key_id.decode()) for key_id in ids))
        return [key for key in found if key is not None and tenant in (None, key.tenant)]

    def _record(self, key_id: str, tenant: str, name: str, secret: str, terms: KeyTerms) -> dict[str, str]:
        return {
            "tenant": tenant,
            "name": name,
            "created": str(int(time.time())),
            "terms": terms.model_dump_json(),
            **self._seal(key_id, secret.encode()),
        }

    def _seal(self, key_id: str, secret: bytes) -> dict[str, str]:
        nonce = secrets.token_bytes(12)
        sealed = nonce + self._ciphers[self._master_id].encrypt(nonce, secret, key_id.encode())
        return {"master": self._master_id, "sealed": sealed.hex()}

    async def _reseal(self, key_id: str) -> bool:
        async with self._redis.pipeline(transaction=True) as pipe:
            # A key that is revoked meanwhile gets no secret again.
            await pipe.watch(keys.api_key(key_id))
            fields = await self._fields(key_id)
            if b"sealed" not in fields or fields[b"master"].decode() == self._master_id:
                return False
            sealed = self._seal(key_id, self._open(key_id, fields).secret)
            pipe.multi()  # type: ignore[no-untyped-call]
            pipe.hset(keys.api_key(key_id), mapping=cast(dict[Any, Any], sealed))
            try:
                await pipe.execute()
            except WatchError:
                return await self._reseal(key_id)
        return True

    async def _write(self, key_id: str, record: dict[str, str]) -> None:
        if not NAMES.fullmatch(record["tenant"]):
            raise BadName(record["tenant"])
        async with self._redis.pipeline(transaction=True) as pipe:
            # Of two that import one key at once, one succeeds.
            await pipe.watch(keys.api_key(key_id))
            if await pipe.exists(keys.api_key(key_id)):
                raise KeyKnown
            pipe.multi()  # type: ignore[no-untyped-call]
            pipe.hset(keys.api_key(key_id), mapping=cast(dict[Any, Any], record))
            pipe.sadd(keys.API_KEYS, key_id)
            try:
                await pipe.execute()
            except WatchError as exc:
                raise KeyKnown from exc

    async def _fields(self, key_id: str) -> dict[bytes, bytes]:
        return await cast(Awaitable[dict[bytes, bytes]], self._redis.hgetall(keys.api_key(key_id)))

    def _open(self, key_id: str, fields: dict[bytes, bytes]) -> ApiKey:
        sealed, master = bytes.fromhex(fields[b"sealed"].decode()), fields[b"master"].decode()
        try:
            secret = self._ciphers[master].decrypt(sealed[:12], sealed[12:], key_id.encode())
        except (KeyError, InvalidTag) as exc:
            raise MasterKeyLost(master) from exc
        return _describe(key_id, fields).model_copy(update={"secret": secret})


def _master_id(master: bytes) -> str:
    return hashlib.sha256(b"master key id" + master).hexdigest()[:8]


def _describe(key_id: str, fields: dict[bytes, bytes]) -> ApiKey:
    said = {name.decode(): value.decode() for name, value in fields.items()}
    kept = {name: said[name] for name in ("tenant", "name", "created", "revoked", "rolled_to") if name in said}
    terms = KeyTerms.model_validate_json(said["terms"]) if "terms" in said else KeyTerms()
    return ApiKey.model_validate({"id": key_id, "terms": terms, **kept})


def checksum(body: str) -> str:
    """Six letters that tell a mistyped or made-up secret from a real one without asking anybody."""
    number, letters = zlib.crc32(body.encode()), ""
    for _ in range(CHECK_LENGTH):
        number, digit = divmod(number, len(LETTERS))
        letters = LETTERS[digit] + letters
    return letters


def is_same(first: bytes, second: bytes) -> bool:
    return hmac.compare_digest(first, second)


def _letters(count: int) -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(count))
