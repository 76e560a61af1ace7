"""What a gateway logs: each transition once, with the ids that support asks for."""

import json
import logging
from collections.abc import Iterator

import httpx2
import pytest

from server.deps import House
from video_jobs.logs import JsonLines

BODY = {"model": "cogvideox-2", "prompt": "a cat", "request_id": "mine-1"}


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[dict] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(json.loads(JsonLines().format(record)))

    def of(self, event: str) -> list[dict]:
        return [line for line in self.said if line["event"] == event]


@pytest.fixture
def lines() -> Iterator[Lines]:
    lines, ours = Lines(), logging.getLogger("server")
    before = ours.level
    ours.addHandler(lines)
    ours.setLevel(logging.INFO)
    yield lines
    ours.removeHandler(lines)
    ours.setLevel(before)


async def test_an_accepted_job_is_told_once(client: httpx2.AsyncClient, lines: Lines) -> None:
    task = (await client.post("/videos/generations", json=BODY)).json()
    await client.post("/videos/generations", json=BODY)

    (line,) = lines.of("job accepted")
    assert (line["job_id"], line["request_id"], line["tenant"]) == (task["id"], "mine-1", "acme")
    assert (line["route"], line["class"]) == ("tiny", "standard")
    assert "a cat" not in str(lines.said)


async def test_a_cancelled_job_is_told(client: httpx2.AsyncClient, lines: Lines) -> None:
    task = (await client.post("/videos/generations", json=BODY)).json()
    await client.delete(f"/async-result/{task['id']}")

    (line,) = lines.of("cancel wanted")
    assert (line["job_id"], line["request_id"], line["verdict"]) == (task["id"], "mine-1", "cancelled")


async def test_a_failed_request_says_which_one(
    client: httpx2.AsyncClient, house: House, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(house.store, "accept", broken)
    await client.post("/videos/generations", json=BODY)

    (line,) = lines.of("request failed")
    assert line["request_id"] == "mine-1"
