"""schemathesis on the served `/openapi.json`: every operation, good and bad requests, every form of credentials.

Nothing stops at the first failure: all are counted, and each is kept with the command that repeats it.
"""

import base64
import io
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jwt
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks

from tests.gateway import Gateway

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
# How often each operation is asked, of 100; what is not named here gets one.
SHARES = {"create_video": 55, "read_result": 14, "list_videos": 10, "cancel_video": 8, "read_file": 9}
# Of these, so many are made to break the schema.
NEGATIVE_SHARE = 0.3
MAX_ROUND, WAIT_SECONDS = 500, 150
# No task's own: cancelling deletes those.
KEPT = "videos/kept/video.mp4"


@dataclass
class Tally:
    """What came back, by operation, status, kind of request and kind of credentials."""

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    forms: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    repeats: dict[str, str] = field(default_factory=dict)
    seconds: float = 0

    @property
    def cases(self) -> int:
        return sum(self.statuses.values())

    @property
    def accepted(self) -> int:
        return sum(count for (_, status), count in self.statuses.items() if 200 <= status < 300)

    def add(self, other: "Tally") -> None:
        for mine, theirs in (
            (self.statuses, other.statuses),
            (self.modes, other.modes),
            (self.forms, other.forms),
            (self.failures, other.failures),
        ):
            mine.update(theirs)
        self.repeats = other.repeats | self.repeats
        self.seconds = max(self.seconds, other.seconds)


class Campaign:
    def __init__(self, gateway: Gateway, number: int) -> None:
        self._gateway, self._number = gateway, number
        self._session, self._tasks = requests.Session(), planted(gateway)
        self._forms = itertools.cycle(("raw", "raw with Bearer", "JWT", "JWT with Bearer", "raw", "JWT", "none"))
        self.tally = Tally()
        schemathesis.openapi.format("task-id", st.integers(0, 2**20).map(self._task))
        # Most end before they are decoded: each that does not starts a process.
        schemathesis.openapi.format("image", st.sampled_from([*(NO_PICTURES * 4), *pictures()]))
        # By its text: asked for by its address, the document's own operation would be left out.
        described = without_pictures(self._session.get(f"{gateway.url}/openapi.json").json())
        schema = schemathesis.openapi.from_dict(described)
        self.operations = {op.ok().definition.raw["operationId"]: op.ok() for op in schema.get_all_operations()}

    def run(self, cases: int) -> Tally:
        """At least so many cases: rounds of Hypothesis, each with a seed of its own."""
        started, shares = time.monotonic(), sum(SHARES.get(name, 1) for name in self.operations)
        rounds = max(1, cases // MAX_ROUND)
        for turn in itertools.count():
            print(f"campaign {self._number}: {self.tally.cases} of {cases}", file=sys.stderr, flush=True)
            if self.tally.cases >= cases:
                break
            for name in self.operations:
                share = cases * SHARES.get(name, 1) / shares / rounds
                self._ask(name, GenerationMode.POSITIVE, max(1, round(share * (1 - NEGATIVE_SHARE))), turn)
                self._ask(name, GenerationMode.NEGATIVE, max(1, round(share * NEGATIVE_SHARE)), turn)
        self.tally.seconds = time.monotonic() - started
        return self.tally

    def _ask(self, name: str, mode: GenerationMode, count: int, turn: int) -> None:
        try:
            strategy = self.operations[name].as_strategy(generation_mode=mode)
            self._rounds(strategy, name, mode, count, turn)
        except Exception as exc:
            # An operation without any parameter has nothing that could be wrong.
            if mode is GenerationMode.POSITIVE or "Unsatisfiable" not in type(exc).__name__:
                raise

    def _rounds(self, strategy: Any, name: str, mode: GenerationMode, count: int, turn: int) -> None:
        @seed(self._number * 1000 + turn)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def ask(case: Case) -> None:
            self._send(case, name, mode)

        ask()

    def _send(self, case: Case, name: str, mode: GenerationMode) -> None:
        form = next(self._forms)
        headers = self._headers(form)
        if name == "read_file" and mode is GenerationMode.POSITIVE and form != "none":
            self._lead_to_a_file(case)
        case.headers = type(case.headers)({n: v for n, v in case.headers.items() if n.lower() != "authorization"})
        reply = case.call(base_url=self._gateway.url, session=self._session, headers=headers, timeout=WAIT_SECONDS)
        self.tally.statuses[name, reply.status_code] += 1
        self.tally.modes[mode.value] += 1
        self.tally.forms[form] += 1
        if name == "create_video" and reply.status_code == 200:
            self._tasks.append(reply.json()["id"])
        try:
            case.validate_response(reply, checks=CHECKS, headers=headers)
        except FailureGroup as group:
            for failure in group.exceptions:
                what = f"{name}: {type(failure).__name__}: {reply.status_code}"
                self.tally.failures[what] += 1
                self.tally.repeats.setdefault(what, f"{case.as_curl_command()}\n{failure}\n{reply.text[:600]}")

    def _lead_to_a_file(self, case: Case) -> None:
        """No generator guesses a signature."""
        path, _, query = self._gateway.link(KEPT).removeprefix("/files/").partition("?")
        case.path_parameters = {"key": path}
        case.query = dict(part.split("=") for part in query.split("&"))

    def _headers(self, form: str) -> dict[str, str]:
        if form == "none":
            return {}
        word = self._gateway.key if "raw" in form else token(self._gateway.key)
        return {"Authorization": f"Bearer {word}" if "Bearer" in form else word}

    def _task(self, number: int) -> str:
        """Mostly a task of the caller; now and then one of somebody else, or of nobody."""
        return self._tasks[number % len(self._tasks)] if number % 8 else str(10**24 + number)


def without_pictures(described: dict[str, Any]) -> dict[str, Any]:
    """Examples are sent again and again: those with a picture would start as many decoders."""
    described["components"]["schemas"]["Image"].pop("examples")
    media = described["paths"]["/api/paas/v4/videos/generations"]["post"]["requestBody"]["content"]["application/json"]
    media["examples"] = {n: example for n, example in media["examples"].items() if "image_url" not in example["value"]}
    return described


def token(key: str) -> str:
    key_id, secret = key.split(".")
    now = int(time.time() * 1000)
    return jwt.encode(
        {"api_key": key_id, "exp": now + 210_000, "timestamp": now}, secret, "HS256", {"sign_type": "SIGN"}
    )


def pictures() -> Iterator[str]:
    """Two that are usable, and one whose format is not taken."""
    for kind, prefix in (("PNG", "data:image/png;base64, "), ("JPEG", ""), ("GIF", "")):
        out = io.BytesIO()
        Image.new("RGB", (16, 12), "red").save(out, kind)
        yield prefix + base64.b64encode(out.getvalue()).decode()


NO_PICTURES = [
    *("http://127.0.0.1/a.png", "http://169.254.169.254/", "https://[::1]/a.png", "http://a@b/c", "http://x y/"),
    *("http://", "not base64!", "!" * 5000, "ftp://example.com/a.png", "//example.com/a.png", "😀", "?", "-_-", "=="),
    *("file:///etc/passwd", "unix:/run/x", "data:image/png;base64,é", "http://127.0.0.1:99999/", "https://0/"),
]


def planted(gateway: Gateway) -> list[str]:
    """Tasks that will succeed, that will fail, that are cancelled, and one of another tenant; and the file."""
    kept = gateway.state / "results" / KEPT
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(bytes(2000))
    own, other = ({"Authorization": key} for key in (gateway.key, gateway.other_key))
    place = f"{gateway.api}/videos/generations"

    def task(prompt: str, headers: dict[str, str]) -> str:
        reply = requests.post(place, json={"model": "cogvideox-2", "prompt": prompt}, headers=headers)
        assert reply.ok, reply.text
        return str(reply.json()["id"])

    tasks = [task(prompt, own) for prompt in ("a cat", "please fail") * 4]
    requests.delete(f"{gateway.api}/async-result/{tasks[-1]}", headers=own)
    return [*tasks, task("a cat", other)]
