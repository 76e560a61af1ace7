"""Finds records by end user, tenant, task and time, in Redis and the exported files alike."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

from video_jobs.audit.archive import Segment
from video_jobs.audit.chain import read_line
from video_jobs.audit.content import Content, to_json
from video_jobs.audit.reader import Batch, Trail
from video_jobs.job import Frozen

DAY_MS = 24 * 3_600_000


class Query(Frozen):
    tenant: str | None = None
    user_id: str | None = None
    task_id: str | None = None
    event: str | None = None
    since_ms: int = 0
    until_ms: int = 1 << 62

    def may_be_in(self, segment: Segment) -> bool:
        """A segment names the hour of its first record; one that was cut by a slow export may span more."""
        return segment.starts_ms < self.until_ms and segment.starts_ms + DAY_MS > self.since_ms

    def fields(self) -> dict[str, str]:
        wanted = {"tenant": self.tenant, "user_id": self.user_id, "task_id": self.task_id, "event": self.event}
        return {name: value for name, value in wanted.items() if value is not None}

    def matches(self, record: dict[str, Any]) -> bool:
        if not self.since_ms <= record.get("at_ms", 0) < self.until_ms:
            return False
        return all(record.get(name) == value for name, value in self.fields().items())


async def search(trail: Trail, query: Query, with_content: bool = True) -> AsyncGenerator[dict[str, Any]]:
    """The records, oldest first, each with its personal content where that is still kept."""
    for chain_id in await trail.chains():
        async for batch in trail.read(chain_id, query.may_be_in):
            for record in await _found(trail, batch, query, with_content):
                yield {"chain_id": chain_id} | record


async def _found(trail: Trail, batch: Batch, query: Query, with_content: bool) -> list[dict[str, Any]]:
    records = await asyncio.to_thread(_matching, batch.lines or [], query)
    kept = await trail.contents(batch, records) if with_content and records else {}
    for record in records:
        record |= _said(kept, record["seq"], record.pop("content", None))
    return records


def _said(kept: dict[int, Content | None], seq: int, digest: str | None) -> dict[str, Any]:
    """The content that was sealed with the record; what somebody put in its place is not shown as that."""
    if digest is None or seq not in kept:
        return {}
    content = kept[seq]
    return content.said if content and content.digest() == digest else {"altered": "content"}


def _matching(lines: list[bytes], query: Query) -> list[dict[str, Any]]:
    # Looking for the bytes first spares the parsing of what cannot match.
    needles = [f'"{name}":{to_json(value)}'.encode(errors="replace") for name, value in query.fields().items()]
    found = []
    for line in lines:
        if all(needle in line for needle in needles) and (link := read_line(line)):
            record = json.loads(link.record)
            if query.matches(record):
                found.append(record)
    return found
