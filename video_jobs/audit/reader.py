"""Reads Redis and the exported objects as one trail, in order, while the sealer goes on working."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from video_jobs.audit.archive import DAMAGE, Archive, Segment
from video_jobs.audit.chain import is_checkpoint
from video_jobs.audit.content import Content
from video_jobs.audit.ledger import SLICE, Ledger


class Batch(NamedTuple):
    """Lines of one place: a segment of the store, or Redis when there is none. None for lines that cannot be read."""

    chain_id: str
    segment: Segment | None
    lines: list[bytes] | None
    checkpoints: list[bytes]


class Trail:
    def __init__(self, archive: Archive, ledger: Ledger | None) -> None:
        self._archive, self._ledger = archive, ledger

    async def chains(self) -> list[str]:
        """The oldest first; Redis's own is the last."""
        known = set(await asyncio.to_thread(self._archive.chains))
        if self._ledger and (own := (await self._ledger.state()).chain_id):
            known.add(own)
        return sorted(known)

    async def read(self, chain_id: str, wanted: Callable[[Segment], bool] = lambda _: True) -> AsyncIterator[Batch]:
        after = 0
        while True:
            exported = await self._exported(chain_id)
            for segment in await asyncio.to_thread(self._archive.segments, chain_id):
                # What is in the store but not yet marked as exported still comes from Redis.
                if segment.last <= after or (exported is not None and segment.first > exported):
                    continue
                if wanted(segment):
                    yield await asyncio.to_thread(self._of_segment, segment, max(0, after + 1 - segment.first))
                after = max(after, segment.last)
            if exported is None:
                return
            # Before the lines: the sealer may sign beyond them while we read.
            start, checkpoints = max(0, after - exported), await self._checkpoints(exported)
            while (lines := await self._of_redis(exported, start)) is not None:
                if not lines:
                    yield Batch(chain_id, None, [], checkpoints)
                    return
                yield Batch(chain_id, None, lines, [])
                start += len(lines)
            # The sealer exported meanwhile. What came from Redis does not come again from the store.
            after = exported + start

    async def contents(self, batch: Batch, records: list[dict[str, Any]]) -> dict[int, Content | None]:
        """The personal content of these records where it is still kept; None where it cannot be read any more."""
        seqs = {int(record["seq"]): str(record.get("tenant", "")) for record in records if "content" in record}
        if batch.segment is not None:
            return await asyncio.to_thread(self._kept, batch.segment, seqs)
        found = await self._ledger.contents(seqs) if self._ledger else []
        kept: dict[int, Content | None] = {content.seq: content for content in found}
        # What was in Redis a moment ago may have been exported since.
        missing = {seq: tenant for seq, tenant in seqs.items() if seq not in kept}
        return await asyncio.to_thread(self._exported_contents, batch.chain_id, missing) | kept if missing else kept

    def _exported_contents(self, chain_id: str, missing: dict[int, str]) -> dict[int, Content | None]:
        found: dict[int, Content | None] = {}
        for segment in self._archive.segments(chain_id):
            inside = {seq: tenant for seq, tenant in missing.items() if segment.first <= seq <= segment.last}
            found |= self._kept(segment, inside) if inside else {}
        return found

    def _kept(self, segment: Segment, seqs: dict[int, str]) -> dict[int, Content | None]:
        by_tenant = {tenant: self._archive.contents(segment, tenant) for tenant in set(seqs.values())}
        found: dict[int, Content | None] = {}
        for seq, tenant in seqs.items():
            kept = by_tenant[tenant]
            if kept is None or seq in kept:
                found[seq] = kept[seq] if kept else None
        return found

    async def _exported(self, chain_id: str) -> int | None:
        """None when the chain is not Redis's own."""
        state = await self._ledger.state() if self._ledger else None
        return state.exported if state and state.chain_id == chain_id else None

    async def _of_redis(self, exported: int, start: int) -> list[bytes] | None:
        return await self._ledger.lines(exported, start, SLICE) if self._ledger else []

    async def _checkpoints(self, exported: int) -> list[bytes]:
        if self._ledger is None:
            return []
        return [line for seq, line in (await self._ledger.checkpoints()).items() if seq > exported]

    def _of_segment(self, segment: Segment, read_before: int) -> Batch:
        try:
            lines = self._archive.lines(segment)
        except (KeyError, *DAMAGE):
            return Batch(segment.chain_id, segment, None, [])
        checkpoints = [line for line in lines if is_checkpoint(line)]
        records = [line for line in lines if not is_checkpoint(line)]
        return Batch(segment.chain_id, segment, records[read_before:], checkpoints)
