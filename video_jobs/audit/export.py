"""Whole hours go from Redis to the store, and earlier when there are many records."""

import asyncio

from video_jobs.audit.archive import Archive, at_ms_of, hour_of, new_segment
from video_jobs.audit.chain import SigningKey, read_line
from video_jobs.audit.ledger import SLICE, Ledger, Turn

SEGMENT_RECORDS = 20_000


class Exporter:
    def __init__(self, ledger: Ledger, archive: Archive, key: SigningKey, backlog: int) -> None:
        self._ledger, self._archive, self._key = ledger, archive, key
        self._most = min(SEGMENT_RECORDS, backlog // 2)

    async def export(self, turn: Turn) -> None:
        """Every segment that is due. A second try, by whoever has the turn, writes the same objects again."""
        exported = turn.exported
        while lines := await self._due(turn, exported):
            last = await self._ledger.plan(turn, exported + len(lines))
            if last <= exported:
                return
            # Another sealer may have planned otherwise; its plan holds.
            if last != exported + len(lines):
                lines = await self._lines(exported, last - exported)
            if len(lines) < last - exported:
                return
            await self._put(turn, exported + 1, last, lines)
            exported = last

    async def _due(self, turn: Turn, exported: int) -> list[bytes]:
        """The lines of the oldest hour if it is over, or of a whole segment."""
        if turn.sealed <= exported:
            return []
        lines = await self._lines(exported, min(self._most, turn.sealed - exported))
        if not lines:
            return []
        hours = [hour_of(at_ms_of(_record(line))) for line in (lines[0], lines[-1])]
        if hours[0] == hours[1]:
            is_due = len(lines) >= self._most or hours[0] != hour_of(turn.now_ms) or turn.planned > exported
            return lines if is_due else []
        return await asyncio.to_thread(_first_hour, lines, hours[0])

    async def _lines(self, exported: int, count: int) -> list[bytes]:
        found: list[bytes] = []
        while len(found) < count:
            more = await self._ledger.lines(exported, len(found), min(SLICE, count - len(found)))
            if not more:
                return found if more is not None else []
            found += more
        return found

    async def _put(self, turn: Turn, first: int, last: int, lines: list[bytes]) -> None:
        contents = []
        for start in range(first, last + 1, SLICE):
            contents += await self._ledger.contents(range(start, min(start + SLICE, last + 1)))
        boundary = self._key.sign(turn.chain_id, last, _chain(lines[-1]), turn.now_ms)
        signed = [line for seq, line in (await self._ledger.checkpoints()).items() if first <= seq < last]
        whole = [*await self._ledger.boundary(), *lines, *signed, boundary.line()]
        segment = new_segment(turn.chain_id, first, last, at_ms_of(_record(lines[0])))
        await asyncio.to_thread(self._archive.put_segment, segment, whole, contents)
        await self._ledger.exported(turn, last, boundary)


def _first_hour(lines: list[bytes], hour: str) -> list[bytes]:
    """Up to the first record of another hour; a clock set back changes nothing."""
    for count, line in enumerate(lines):
        if hour_of(at_ms_of(_record(line))) != hour:
            return lines[:count]
    return lines


def _record(line: bytes) -> bytes:
    link = read_line(line)
    if link is None:
        raise ValueError("a sealed line in Redis is not one of ours")
    return link.record


def _chain(line: bytes) -> str:
    link = read_line(line)
    return link.chain.decode() if link else ""
