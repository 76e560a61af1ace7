"""Hostile tokens: forged, confused, stretched and misspelt, each of them signed as well as its forger could."""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import jwt
import pytest

from server.deps import House
from server.tokens import MAX_TOKEN_BYTES, BadCredentials, Caller, ExpiredToken, NoCredentials, authenticate

HEADER: dict[str, Any] = {"alg": "HS256", "sign_type": "SIGN", "typ": "JWT"}
DIGESTS = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
WEEK_MS, YEAR_S = 7 * 86_400_000, 365 * 86_400
SCALES = {"s": 1, "ms": 1000, "us": 1_000_000}

Knock = Callable[[str], Awaitable[str]]


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def now_ms() -> int:
    return int(time.time() * 1000)


def claims_of(key: str, **changed: Any) -> dict[str, Any]:
    return {"api_key": key.split(".")[0], "exp": now_ms() + 210_000, "timestamp": now_ms()} | changed


def signed(header: Any, claims: Any, secret: str, digest: str = "HS256") -> str:
    """A token of any header and claims, given as values or as the raw text they shall be."""
    parts = [part if isinstance(part, str) else json.dumps(part) for part in (header, claims)]
    return sealed([part.encode(errors="surrogatepass") for part in parts], secret, digest)


def sealed(parts: list[bytes], secret: str, digest: str = "HS256") -> str:
    body = ".".join(b64(part) for part in parts)
    return f"{body}.{b64(hmac.digest(secret.encode(), body.encode(), DIGESTS[digest]))}"


def good(key: str, **claims: Any) -> str:
    return signed(HEADER, claims_of(key, **claims), key.split(".")[1])


@pytest.fixture
def knock(house: House) -> Knock:
    """What became of one `Authorization`: the tenant that it opens, or why it opens nothing."""

    async def one(header: str) -> str:
        try:
            caller = await authenticate([header], house.ring)
        except (BadCredentials, ExpiredToken, NoCredentials) as refused:
            return type(refused).__name__
        return caller.tenant

    return one


def algorithms(key: str, other: str) -> Iterator[str]:
    """Any algorithm but HS256, however it is spelt, signed with everything that might be taken for its key."""
    secret, claims = key.split(".")[1], claims_of(key)
    for alg in ["none", "None", "NONE", "nOnE", "", "hs256", "HS256 ", " HS256", "HS256\0", "HS255", "HMAC", "A128KW"]:
        for word in (secret, "", key.split(".")[0]):
            yield signed(HEADER | {"alg": alg}, claims, word)
        yield ".".join([b64(json.dumps(HEADER | {"alg": alg}).encode()), b64(json.dumps(claims).encode()), ""])
    for alg in ["RS256", "RS512", "ES256", "ES256K", "PS256", "EdDSA", "HS384", "HS512", "dir", "RSA-OAEP"]:
        yield signed(HEADER | {"alg": alg}, claims, secret, "HS256")
        if alg in DIGESTS:
            yield signed(HEADER | {"alg": alg}, claims, secret, alg)
            yield signed(HEADER, claims, secret, alg)
    for alg in (None, 1, True, ["HS256"], {"HS256": 1}, ["none", "HS256"]):
        yield signed(HEADER | {"alg": alg}, claims, secret)
    yield signed({"typ": "JWT"}, claims, secret)
    yield jwt.encode(claims, "", "none")


def headers(key: str, other: str) -> Iterator[str]:
    """Header fields by which other servers were made to fetch, trust or skip something."""
    secret, claims = key.split(".")[1], claims_of(key)
    for name, value in {
        "kid": "../../../dev/null",
        "jku": "http://127.0.0.1/keys",
        "jwk": {"kty": "oct", "k": b64(secret.encode())},
        "x5u": "http://127.0.0.1/cert",
        "x5c": ["MIIB"],
        "x5t": "AA",
        "crit": ["exp"],
        "b64": False,
        "zip": "DEF",
        "cty": "JWT",
        "enc": "A256GCM",
        "p2c": 10**9,
        "api_key": key.split(".")[0],
        "Alg": "none",
        "alg ": "none",
    }.items():
        yield signed(HEADER | {name: value}, claims, secret)
        yield signed(HEADER | {name: value}, claims, other.split(".")[1])
    for typ in ("JWE", "JOSE", "at+jwt", "", 5, None, ["JWT"], {"JWT": 1}):
        yield signed(HEADER | {"typ": typ}, claims, secret)
    for text in ("[]", "null", '"HS256"', "5", "", "{", "{}", '{"alg":"HS256"', '{"alg":"HS256"}x', "[" * 1500):
        yield signed(text, claims, secret)


def duplicates(key: str, other: str) -> Iterator[str]:
    """The same name twice: which one counts is anybody's guess, so none does."""
    key_id, secret = key.split(".")
    other_id = other.split(".")[0]
    exp, past = now_ms() + 60_000, now_ms() - 3_600_000
    plain = json.dumps(claims_of(key))
    for text in (
        '{"alg":"none","alg":"HS256","typ":"JWT"}',
        '{"alg":"HS256","alg":"none","typ":"JWT"}',
        '{"alg":"HS256","alg":"HS256"}',
        '{"alg":"HS256","typ":"JWT","typ":"JWT"}',
        '{"alg":"HS256","\\u0061lg":"none"}',
        '{"alg":"HS256","sign_type":"SIGN","sign_type":"NONE"}',
    ):
        yield signed(text, plain, secret)
    for first, second in itertools.permutations([key_id, other_id], 2):
        for word in (secret, other.split(".")[1]):
            yield signed(
                HEADER, f'{{"api_key":"{first}","api_key":"{second}","exp":{exp},"timestamp":{exp - 90_000}}}', word
            )
            yield signed(HEADER, f'{{"api_key":"{first}","exp":{exp},"\\u0061pi_key":"{second}"}}', word)
    for first, second in ((past, exp), (exp, past), (exp, exp)):
        yield signed(HEADER, f'{{"api_key":"{key_id}","exp":{first},"exp":{second}}}', secret)
        yield signed(HEADER, f'{{"api_key":"{key_id}","exp":{exp},"timestamp":{first - 90_000},"timestamp":1}}', secret)
    yield signed(HEADER, f'{{"api_key":"{key_id}","exp":{exp},"more":{{"a":1,"a":2}}}}', secret)


def times(key: str, other: str) -> Iterator[str]:
    """Over, not yet begun, for ever, in no unit, or no number at all."""
    key_id, secret = key.split(".")
    now = time.time()
    for scale in SCALES.values():
        for ago in (61, 3600, 86_400, YEAR_S, 20 * YEAR_S):
            yield good(key, exp=int((now - ago) * scale), timestamp=int((now - ago - 210) * scale))
            yield good(key, exp=int((now - ago) * scale))
        for life in (7 * 86_400 + 125, 8 * 86_400, YEAR_S, 1000 * YEAR_S):
            yield good(key, exp=int((now + life) * scale))
            yield signed(HEADER, {"api_key": key_id, "exp": int((now + life) * scale)}, secret)
        # Minted to be valid in its last week only.
        yield good(key, exp=int((now + 86_400) * scale), timestamp=int((now - YEAR_S) * scale))
        for name in ("timestamp", "nbf", "iat"):
            yield good(key, **{"exp": int((now + 5000) * scale), name: int((now + 3600) * scale)})
    for value in (
        True,
        False,
        None,
        -1,
        0,
        1,
        1.5,
        "",
        "1",
        str(now_ms()),
        [now_ms()],
        {"exp": 1},
        10**18,
        10**19,
        10**400,
    ):
        yield good(key, exp=value)
        yield good(key, exp=now_ms() + 60_000, timestamp=value)
    for text in ("NaN", "Infinity", "-Infinity", "1e999", "1e18", f"{now_ms()}.5", f"{now_ms() + 9000}.0", "9" * 1200):
        yield signed(HEADER, f'{{"api_key":"{key_id}","exp":{text}}}', secret)
    yield signed(HEADER, {"api_key": key_id}, secret)
    yield signed(HEADER, {"api_key": key_id, "expires": now_ms() + 1000, "Exp": now_ms() + 1000}, secret)


def owners(key: str, other: str) -> Iterator[str]:
    """One tenant's id with another's secret, an id that never was, and ids that are no text."""
    (key_id, secret), (other_id, other_secret) = key.split("."), other.split(".")
    strangers = [other_id, key_id.upper(), key_id + " ", key_id + "\0", key_id[:-1], "", "*", "cvx-*", "\ud800", "钥"]
    for name in [*strangers, f"cvx-{'0' * 16}", "../api-key", f"{key_id}}}:x", None, 5, True, [key_id], {"id": key_id}]:
        yield good(key, api_key=name)
    for word in (other_secret, "", key_id, secret[:-1], secret + " ", secret.swapcase(), "0" * 49, key, "cvx-"):
        yield signed(HEADER, claims_of(key), word)
    yield signed(HEADER, {"exp": now_ms() + 60_000}, secret)
    for text in (
        "[]",
        "null",
        "5",
        f'"{key_id}"',
        "{",
        "",
        f'["{key_id}"]',
        "[" * 1200,
        '{"a":' * 300 + "1" + "}" * 300,
    ):
        yield signed(HEADER, text, secret)
    plain = json.dumps(claims_of(key))
    for encoding in ("utf-16", "utf-16-le", "utf-32", "utf-8-sig"):
        yield sealed([json.dumps(HEADER).encode(), plain.encode(encoding)], secret)
    yield sealed([json.dumps(HEADER).encode(), plain.encode() + b"\xff"], secret)


def spellings(key: str, other: str) -> Iterator[str]:
    """A good token, its text changed in ways that a lenient decoder forgives."""
    token = good(key)
    head, body, signature = token.split(".")
    yield from (
        f"{head}.{body}",
        f"{head}.{body}.",
        f".{body}.{signature}",
        f"{head}..{signature}",
        "..",
        "...",
        "a.b.c",
    )
    yield from (f"{token}.", f".{token}", f"{token}.{signature}", f"{head}.{head}.{body}.{signature}.{signature}")
    for pad in ("=", "==", "%3D", "\n", "\t", "!", "*", "\u200b", "\x7f"):
        yield f"{token}{pad}" if pad not in "\n\t" else f"{head}{pad}.{body}.{signature}"
        yield f"{head}{pad}.{body}.{signature}"
        yield f"{head}.{body}{pad}.{signature}"
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = letters.index(signature[-1])
    # The last letter holds two bits of nothing: three other letters decode to the same bytes.
    yield from (f"{head}.{body}.{signature[:-1]}{letters[last ^ bits]}" for bits in (1, 2, 3))
    standard = signed(HEADER, claims_of(key, request="?" * 40 + "~" * 40), key.split(".")[1])
    yield standard.replace("-", "+").replace("_", "/") if {"-", "_"} & set(standard) else f"{standard}+"
    for at in range(0, len(token), 7):
        yield token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
    yield from (f"Basic {token}", f"Token {token}", f"Bearer Bearer {token}", f"Bearer {token} x", f"{token},{token}")
    yield good(key, padding="x" * MAX_TOKEN_BYTES)
    yield "x" * 5000


@pytest.mark.parametrize("family", [algorithms, headers, duplicates, times, owners, spellings])
async def test_no_hostile_token_is_accepted(
    house: House, key: str, knock: Knock, family: Callable[[str, str], Iterator[str]]
) -> None:
    other = await house.ring.create("globex", "other")
    vectors = list(family(key, other))
    answers = [await knock(vector) for vector in vectors]

    accepted = [vector for vector, answer in zip(vectors, answers, strict=True) if answer in ("acme", "globex")]
    assert accepted == []
    assert await knock(good(key)) == "acme", "and the key these were made of does open"


async def test_there_are_enough_of_them(key: str) -> None:
    families = [list(family(key, key)) for family in (algorithms, headers, duplicates, times, owners, spellings)]

    assert len({vector for family in families for vector in family}) >= 300


@pytest.mark.parametrize("scale", SCALES)
async def test_token_that_expired_a_year_ago_is_told_to_be_expired(key: str, knock: Knock, scale: str) -> None:
    ended = (time.time() - YEAR_S) * SCALES[scale]
    token = good(key, exp=int(ended), timestamp=int(ended - 210 * SCALES[scale]))

    assert await knock(token) == await knock(f"Bearer {token}") == "ExpiredToken"


@pytest.mark.parametrize("scale", SCALES)
async def test_bounds_of_a_tokens_time_hold_to_the_second(key: str, knock: Knock, scale: str) -> None:
    def lived(before_s: float, after_s: float) -> str:
        now, factor = time.time(), SCALES[scale]
        return good(key, exp=int((now + after_s) * factor), timestamp=int((now - before_s) * factor))

    assert await knock(lived(200, -58)) == "acme", "60 s of skew are forgiven after the end"
    assert await knock(lived(200, -61)) == "ExpiredToken"
    assert await knock(lived(-58, 200)) == "acme", "and before the beginning"
    assert await knock(lived(-62, 200)) == "BadCredentials"
    assert await knock(lived(0, 7 * 86_400)) == "acme"
    assert await knock(lived(5, 7 * 86_400 + 58)) == "BadCredentials"


async def test_largest_token_is_counted_to_the_byte(key: str, knock: Knock) -> None:
    def of(size: int) -> str:
        for padding in range(MAX_TOKEN_BYTES):
            token = good(key, padding="x" * padding)
            if len(token) >= size:
                return token
        raise AssertionError(size)

    largest = of(MAX_TOKEN_BYTES - 1)
    assert len(largest) in (MAX_TOKEN_BYTES - 1, MAX_TOKEN_BYTES)
    assert await knock(largest) == "acme"
    assert await knock(of(MAX_TOKEN_BYTES + 1)) == "BadCredentials"


async def test_two_authorizations_name_nobody(house: House, key: str) -> None:
    for pair in ([key, key], [key, ""], ["", key], [good(key), key]):
        with pytest.raises(BadCredentials):
            await authenticate(pair, house.ring)

    assert await authenticate([key], house.ring) == Caller("acme", key.split(".")[0])


@pytest.mark.parametrize("form", ["raw", "jwt"])
async def test_unknown_id_and_wrong_secret_take_the_same_way(
    house: House, key: str, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """Each step that takes time is taken in both: one look-up, one record opened, one comparison, one answer kept."""
    steps: list[str] = []

    def noted(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def note(*args: Any, **kwargs: Any) -> Any:
            steps.append(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, note)

    from server import tokens

    # The gateway's own start is over, so that every look-up is the caller's.
    while await house.book.plan("default") is None:
        await asyncio.sleep(0.01)
    for owner, name in ((house.redis, "hgetall"), (house.ring, "_open"), (tokens, "is_same"), (tokens, "_sign")):
        noted(owner, name)
    key_id, secret = key.split(".")
    wrong = secret[:-1] + ("a" if secret[-1] != "a" else "b")

    async def way(guess: str) -> list[str]:
        steps.clear()
        for _ in range(2):
            header = guess if form == "raw" else good(guess)
            with pytest.raises(BadCredentials):
                await authenticate([header], house.ring)
        return list(steps)

    unknown = await way(f"cvx-{'0' * 16}.{secret}")
    assert unknown == await way(f"{key_id}.{wrong}")
    assert unknown[:3] == ["hgetall", "_open", "is_same"] if form == "raw" else ["hgetall", "_open", "_sign"]
    assert unknown.count("hgetall") == 1, "and both are remembered alike"


def test_signature_is_the_one_of_the_standard() -> None:
    """RFC 7515, appendix A.1, and the token captured from the official SDK."""
    from server.keys import ApiKey
    from server.tokens import _sign

    secret = base64.urlsafe_b64decode(
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow=="
    )
    body = (
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt"
        "cGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    )
    captured = (
        "eyJhbGciOiJIUzI1NiIsInNpZ25fdHlwZSI6IlNJR04iLCJ0eXAiOiJKV1QifQ.eyJhcGlfa2V5IjoiMDEyMzQ1Njc4OWFiY2RlZjAxMjM0"
        "NTY3ODlhYmNkZWYiLCJleHAiOjE3OTUyMTY2MTU0MzYsInRpbWVzdGFtcCI6MTc5NTIxNjQwNTQzNn0.0E0WAgK1BStet0ebn_GE-ixrnNBt"
        "embRjuvdDsAxjF0"
    ).rpartition(".")

    def key(word: bytes) -> ApiKey:
        return ApiKey(id="", tenant="", name="", secret=word)

    assert _sign(body, key(secret)) == b"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    assert _sign(captured[0], key(b"SecretSecret1234")) == captured[2].encode()
