"""Who calls: a raw API key or Zhipu's JWT, with or without `Bearer`."""

import base64
import binascii
import json
import time
from typing import Any, NamedTuple

import jwt

from server.keys import ApiKey, KeyRing, is_same

MAX_TOKEN_BYTES = 2048
MAX_LIFE_SECONDS, SKEW_SECONDS = 7 * 24 * 3600, 60
HEADER_FIELDS = {"alg", "typ", "sign_type"}
DECOY = ApiKey(id="", tenant="", name="", secret=b"0" * 49)


class NoCredentials(Exception):
    """No `Authorization` header was sent."""


class BadCredentials(Exception):
    """The key or token is not valid."""


class ExpiredToken(Exception):
    """The token has expired."""


class Caller(NamedTuple):
    tenant: str
    key_id: str


async def authenticate(header: str | None, ring: KeyRing) -> Caller:
    if header is None or not header.strip():
        raise NoCredentials
    token = header.strip()
    if token[:7].lower() == "bearer ":
        token = token[7:].strip()
    if not token or len(token.encode(errors="replace")) > MAX_TOKEN_BYTES:
        raise BadCredentials
    key = await (_by_jwt(token, ring) if token.count(".") == 2 else _by_secret(token, ring))
    return Caller(key.tenant, key.id)


async def _by_secret(token: str, ring: KeyRing) -> ApiKey:
    key_id, _, secret = token.partition(".")
    key = await ring.find(key_id) or DECOY
    # An unknown id costs the same comparison as a wrong secret.
    if not is_same(key.secret, secret.encode(errors="replace")) or key is DECOY:
        raise BadCredentials
    return key


async def _by_jwt(token: str, ring: KeyRing) -> ApiKey:
    """The claimed id is looked up first, then the token is verified with that id's secret."""
    header, claims = (_read_part(part) for part in token.split(".")[:2])
    if header.get("alg") != "HS256" or not set(header) <= HEADER_FIELDS:
        raise BadCredentials
    key_id = claims.get("api_key")
    if not isinstance(key_id, str) or not key_id.isascii():
        raise BadCredentials
    key = await ring.find(key_id) or DECOY
    if not _is_signed(token, key) or key is DECOY:
        raise BadCredentials
    _check_times(claims)
    return key


def _is_signed(token: str, key: ApiKey) -> bool:
    # Times are checked by ourselves: clients send milliseconds, which a library reads as the far future.
    options = {f"verify_{claim}": False for claim in ("exp", "iat", "nbf", "aud", "iss", "sub", "jti")}
    try:
        jwt.decode(token, key.secret, algorithms=["HS256"], options=options)  # type: ignore[arg-type]
    except jwt.PyJWTError:
        return False
    return True


def _check_times(claims: dict[str, Any]) -> None:
    now = time.time()
    expires, issued = _seconds(claims.get("exp")), _seconds(claims.get("timestamp", 0))
    if expires <= now - SKEW_SECONDS:
        raise ExpiredToken
    if expires > now + MAX_LIFE_SECONDS + SKEW_SECONDS or issued > now + SKEW_SECONDS:
        raise BadCredentials


def _seconds(value: object) -> float:
    """Seconds, milliseconds and microseconds are told apart by size."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1e18:
        raise BadCredentials
    if value > 1e14:
        return value / 1e6
    return value / 1e3 if value > 1e11 else float(value)


def _read_part(part: str) -> dict[str, Any]:
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        read = json.loads(raw, object_pairs_hook=_without_duplicates)
    except (binascii.Error, ValueError, RecursionError) as exc:
        raise BadCredentials from exc
    if not isinstance(read, dict):
        raise BadCredentials
    return read


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise BadCredentials
    return dict(pairs)
