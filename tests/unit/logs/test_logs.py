"""A log line is one line of JSON; it says what it is about, and never a secret."""

import asyncio
import json
import logging

import pytest

from video_jobs.logs import JsonLines, about, also_about, redact

SECRETS = {
    "a password in a URL": "rediss://worker:hunter2@redis.example:6379/0",
    "a password without a name": "redis://:hunter2@redis.example:6379/0",
    "a bearer token": "Authorization: Bearer hunter2-token",
    "a hub token": "hf_hunter2ABCDEFGHIJKLMNOPQRSTUVWX",
    "a key of another service": "sk-hunter2abcdefghijklmnop",
    "the name of an AWS key": "AKIAHUNTER2HUNTER2HU",
}


def line(**said: object) -> dict[str, object]:
    record = logging.makeLogRecord({"name": "server.x", "levelname": "INFO", "msg": "job accepted"} | said)
    return dict(json.loads(JsonLines().format(record)))


@pytest.mark.parametrize("case", SECRETS)
def test_no_form_of_secret_is_logged(case: str) -> None:
    said = redact(f"failed: {SECRETS[case]} (again)")

    assert "hunter2" not in said.lower()
    assert said.startswith("failed: ")
    assert said.endswith(" (again)")


def test_a_secret_in_a_field_leaves_the_line_whole() -> None:
    assert line(error='Bearer abc"def', other=1)["other"] == 1


async def test_a_line_says_what_it_is_about_wherever_it_is_logged() -> None:
    async def job(number: int) -> dict[str, object]:
        about(job_id=f"j{number}")
        beat = asyncio.create_task(asyncio.sleep(0.01, None))
        also_about(request_id=f"r{number}")
        await beat
        return await asyncio.to_thread(line)

    first, second = await asyncio.gather(job(1), job(2))

    assert (first["job_id"], first["request_id"]) == ("j1", "r1")
    assert (second["job_id"], second["request_id"]) == ("j2", "r2")
    assert "job_id" not in line()


async def test_what_was_started_before_an_id_was_known_tells_it_too() -> None:
    known = asyncio.Event()

    async def beat() -> dict[str, object]:
        await known.wait()
        return line()

    about(job_id="j")
    beating = asyncio.create_task(beat())
    also_about(request_id="r")
    known.set()

    assert (await beating)["request_id"] == "r"
