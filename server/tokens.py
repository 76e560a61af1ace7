"""Who calls: a raw API key or Zhipu's JWT, with or without `Bearer`.

Clients write a token's times in seconds, milliseconds or microseconds, which any library reads wrongly, and no library
refuses all that this module refuses: so the few lines that HS256 takes stand here.
"""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from server.grants import ApiKey, KeyTerms
from server.keys import KeyRing, is_same

MAX_TOKEN_BYTES = 2048
MAX_LIFE_SECONDS, SKEW_SECONDS = 7 * 24 * 3600, 60
HEADER_FIELDS = {"alg", "typ", "sign_type"}
DECOY = ApiKey(id="", tenant="", name="", secret=b"0" * 49)
PART = re.compile(r"[A-Za-z0-9_-]+")


class NoCredentials(Exception):
    """No `Authorization` header was sent."""


class BadCredentials(Exception):
    """The key or token is not valid."""


class ExpiredToken(Exception):
    """The token has expired."""


class TenantClosed(Exception):
    """The key's tenant is switched off."""


class Caller(NamedTuple):
    tenant: str
    key_id: str
    terms: KeyTerms = KeyTerms()
    address: str = ""
    user_agent: str = ""


async def authenticate(headers: Sequence[str], ring: KeyRing) -> Caller:
    """The caller that the request's `Authorization` names; two such headers name nobody."""
    if not "".join(headers).strip():
        raise NoCredentials
    if len(headers) > 1:
        raise BadCredentials
    token = headers[0].strip()
    if token[:7].lower() == "bearer ":
        token = token[7:].strip()
    if not token or not token.isascii() or len(token) > MAX_TOKEN_BYTES:
        raise BadCredentials
    key = await (_by_jwt(token, ring) if token.count(".") == 2 else _by_secret(token, ring))
    # Only who holds the secret learns why it does not open.
    if key.is_expired:
        raise ExpiredToken
    if not key.is_tenant_open:
        raise TenantClosed
    return Caller(key.tenant, key.id, key.terms)


async def _by_secret(token: str, ring: KeyRing) -> ApiKey:
    key_id, _, secret = token.partition(".")
    key = await ring.find(key_id) or DECOY
    # An unknown id costs the same comparison as a wrong secret.
    if not is_same(key.secret, secret.encode()) or key is DECOY:
        raise BadCredentials
    return key


async def _by_jwt(token: str, ring: KeyRing) -> ApiKey:
    """The claimed id is looked up first, then the token is verified with that id's secret."""
    signed, _, signature = token.rpartition(".")
    header, claims = (_read_part(part) for part in signed.split("."))
    if header.get("alg") != "HS256" or not set(header) <= HEADER_FIELDS or header.get("typ", "JWT") != "JWT":
        raise BadCredentials
    key_id = claims.get("api_key")
    if not isinstance(key_id, str) or not key_id.isascii():
        raise BadCredentials
    key = await ring.find(key_id) or DECOY
    if not is_same(_sign(signed, key), signature.encode()) or key is DECOY:
        raise BadCredentials
    _check_times(claims)
    return key


def _sign(signed: str, key: ApiKey) -> bytes:
    """The one spelling of the one signature: compared as text, so that no other spelling of it passes."""
    digest = hmac.digest(key.secret, signed.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=")


def _check_times(claims: dict[str, Any]) -> None:
    now = time.time()
    expires = _seconds(claims.get("exp"))
    starts = [_seconds(claims[name]) for name in ("timestamp", "iat", "nbf") if name in claims]
    if expires <= now - SKEW_SECONDS:
        raise ExpiredToken
    latest = now + SKEW_SECONDS
    if expires > latest + MAX_LIFE_SECONDS or any(start > latest for start in starts):
        raise BadCredentials
    if not all(0 < expires - start <= MAX_LIFE_SECONDS + SKEW_SECONDS for start in starts):
        raise BadCredentials


def _seconds(value: object) -> float:
    """Seconds, milliseconds and microseconds are told apart by size."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1e18:
        raise BadCredentials
    if value > 1e14:
        return value / 1e6
    return value / 1e3 if value > 1e11 else float(value)


def _read_part(part: str) -> dict[str, Any]:
    if not PART.fullmatch(part):
        raise BadCredentials
    try:
        raw = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()
        read = json.loads(raw, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as exc:
        raise BadCredentials from exc
    if not isinstance(read, dict):
        raise BadCredentials
    return read


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) != len(pairs):
        raise BadCredentials
    return dict(pairs)
