"""Clients in other languages by the shape of their requests: their very headers, tokens and bodies; and curl itself."""

import base64
import hashlib
import hmac
import http.client
import json
import secrets
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.compatibility.features import Absent, Refused

DAY_S = 24 * 3600
HEADER = {"alg": "HS256", "sign_type": "SIGN", "typ": "JWT"}


def raw(key: str) -> str:
    return key


def token(
    life_s: float, exp: float = 1e3, timestamp: float = 1e3, typ: bool = True, iat: bool = False
) -> Callable[[str], str]:
    """A maker of tokens whose times are in these units, per second; some libraries add `iat`, always in seconds."""

    def make(key: str) -> str:
        key_id, secret = key.split(".")
        now = time.time()
        header = HEADER if typ else {name: value for name, value in HEADER.items() if name != "typ"}
        claims = {"api_key": key_id, "exp": int((now + life_s) * exp), "timestamp": int(now * timestamp)}
        claims |= {"iat": int(now)} if iat else {}
        signed = ".".join(_b64(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
        return f"{signed}.{_b64(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))}"

    return make


def _b64(raw_bytes: bytes) -> str:
    return base64.urlsafe_b64encode(raw_bytes).rstrip(b"=").decode()


@dataclass(frozen=True)
class Shape:
    """How a client signs, what it sends along, and how it writes a body."""

    sign: Callable[[str], str] = raw
    bearer: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    always: dict[str, Any] = field(default_factory=dict)
    has_videos: bool = True
    with_curl: bool = False


JAVA = {"Content-Type": "application/json; charset=UTF-8", "Accept-Encoding": "gzip", "User-Agent": "okhttp/4.12.0"}
SDK_VERSION = {"x-source-channel": "java-sdk", "Zai-SDK-Ver": "0.3.3"}
JSON_ONLY = {"Content-Type": "application/json"}
GO = JSON_ONLY | {"User-Agent": "go-resty/2.16.5 (https://github.com/go-resty/resty)", "Accept-Encoding": "gzip"}
NODE = {"Content-Type": "application/json", "Accept": "application/json, text/plain, */*", "User-Agent": "axios/1.7.7"}

SHAPES = {
    "curl, Bearer and key": Shape(with_curl=True),
    "curl, bare key": Shape(bearer=False, with_curl=True),
    "curl, Bearer and JWT": Shape(sign=token(210), with_curl=True),
    "Java zai-sdk 0.3.3, key": Shape(headers=JAVA | SDK_VERSION, always={"prompt_opt_model": "x", "id": "1"}),
    "Java zai-sdk 0.3.3, JWT": Shape(sign=token(35 * 60), headers=JAVA | SDK_VERSION),
    "Java v4 (legacy), JWT": Shape(sign=token(35 * 60), headers=JAVA),
    "Go yankeguo/zhipu, bare JWT of 7 days, no typ": Shape(
        sign=token(7 * DAY_S, typ=False), bearer=False, headers=GO, always={"prompt": ""}
    ),
    "TypeScript z-ai-sdk, bare JWT, exp in s": Shape(
        sign=token(180, exp=1, iat=True),
        bearer=False,
        headers=NODE | {"User-Agent": "z-ai-sdk-typescript/1.0.0"},
        has_videos=False,
    ),
    "Node zhipuai-sdk-nodejs-v4, bare JWT, times in µs": Shape(
        sign=token(0.18, exp=1e6, timestamp=1e6), bearer=False, headers=NODE, has_videos=False
    ),
    "npm zhipuai 2.0.0, Bearer and JWT": Shape(sign=token(180), headers=NODE, has_videos=False),
}


class ShapeClient:
    def __init__(self, shape: Shape, key: str, base: str) -> None:
        self._shape, self._base = shape, base.rstrip("/")
        word = shape.sign(key)
        self._headers = {"Authorization": f"Bearer {word}" if shape.bearer else word, **shape.headers}

    def create(self, **fields: Any) -> dict[str, Any]:
        if not self._shape.has_videos:
            raise Absent
        body = json.dumps(self._shape.always | fields, ensure_ascii=False, separators=(",", ":")).encode()
        return self._ask("POST", "/videos/generations", body)

    def read(self, task_id: str) -> dict[str, Any]:
        return self._ask("GET", f"/async-result/{task_id}", None)

    def _ask(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        send = self._by_curl if self._shape.with_curl else self._by_socket
        status, text = send(method, self._base + path, body)
        answer: dict[str, Any] = json.loads(text)
        if status != 200:
            assert isinstance(answer["error"]["code"], str), "Go reads a string, Java parses an integer from it"
            raise Refused(status, str(int(answer["error"]["code"])), answer["error"]["message"])
        return answer

    def _by_socket(self, method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
        parts = urlsplit(url)
        line = http.client.HTTPConnection(parts.netloc, timeout=30)
        line.request(method, parts.path, body, self._headers)
        reply = line.getresponse()
        said = reply.status, reply.read()
        line.close()
        return said

    def _by_curl(self, method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
        command = ["curl", "--silent", "--write-out", "\n%{http_code}", "--request", method, url]
        for name, value in self._headers.items():
            command += ["--header", f"{name}: {value}"]
        if body is not None:
            command += ["--header", "Content-Type: application/json", "--data-binary", "@-"]
        said = subprocess.run(command, input=body or b"", capture_output=True, check=True).stdout
        text, _, status = said.rpartition(b"\n")
        return int(status), text


class ShapeWorld:
    """What `features.py` needs to know, for one shape."""

    english = False
    # Each shape's own are in its `always`.
    own_fields: dict[str, Any] = {}

    def __init__(self, shape: Shape, told: dict[str, str]) -> None:
        self._shape, self._told = shape, told
        self.base, self.wrong_key = told["base"], told["wrong_key"]
        self.picture, self.picture_url = told["picture"], told["picture_url"]

    def unique(self, word: str) -> str:
        return f"{word}-{secrets.token_hex(4)}"

    def client(self, key: str | None = None, base: str | None = None) -> ShapeClient:
        return ShapeClient(self._shape, key or self._told["key"], base or self.base)
