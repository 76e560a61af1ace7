"""Checks a whole chain: nothing was edited, deleted, reordered, cut off or slipped in. Tells the first bad record."""

import asyncio
import hashlib
import json
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from video_jobs.audit.archive import Archive
from video_jobs.audit.chain import GENESIS, LINE, SignedCheckpoint, is_signed, mark_of, read_checkpoint, read_line
from video_jobs.audit.content import Content
from video_jobs.audit.ledger import Ledger, LedgerState
from video_jobs.audit.reader import Batch, Trail


class Bad(Exception):
    """The first record that is not what was sealed, and what is wrong with it."""

    def __init__(self, seq: int, why: str) -> None:
        super().__init__(seq, why)
        self.seq, self.why = seq, why


class Trust(NamedTuple):
    """What a verifier believes in. Without mark keys a chain that was computed anew is found by its checkpoints."""

    public_keys: list[bytes]
    mark_keys: list[bytes]
    anchors: dict[int, str] = {}
    """Values of the chain that somebody kept elsewhere: from the log, say."""


class Report(NamedTuple):
    chain_id: str
    records: int
    erased: int
    signed: SignedCheckpoint | None
    seconds: float
    bad: Bad | None


async def verify(archive: Archive, ledger: Ledger | None, chain_id: str, trust: Trust, first: int = 1) -> Report:
    """From record `first`, should older ones have been given away; the value before it is then taken on trust."""
    started, trail, check = time.monotonic(), Trail(archive, ledger), _Check(trust, chain_id, first)
    before = await _own_state(ledger, chain_id)
    head = await asyncio.to_thread(archive.head, chain_id)
    bad: Bad | None = None
    try:
        async for batch in trail.read(chain_id, lambda segment: segment.last >= first):
            await asyncio.to_thread(check.batch, batch)
            await _check_contents(trail, batch, check)
        check.end(before, await _own_state(ledger, chain_id), head)
    except Bad as found:
        bad = found
    return Report(chain_id, check.seq - check.first, check.erased, check.signed, time.monotonic() - started, bad)


async def _own_state(ledger: Ledger | None, chain_id: str) -> LedgerState | None:
    state = await ledger.state() if ledger else None
    return state if state and state.chain_id == chain_id else None


async def _check_contents(trail: Trail, batch: Batch, check: "_Check") -> None:
    with_content = await asyncio.to_thread(_with_content, batch.lines or [])
    if with_content:
        kept = await trail.contents(batch, with_content)
        await asyncio.to_thread(check.contents, with_content, kept)


def _with_content(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    links = (read_line(line) for line in lines if b'"content":"' in line)
    return [record for record in (json.loads(link.record) for link in links if link) if "content" in record]


class _Check:
    """Walks the chain; `seq` is the record it expects next, `value` the chain before it."""

    def __init__(self, trust: Trust, chain_id: str, first: int) -> None:
        self._trust, self._chain_id, self.first = trust, chain_id, first
        self.seq, self.value = first, GENESIS
        self.erased, self.signed_seq = 0, first - 1
        self.signed: SignedCheckpoint | None = None
        self._values = {first - 1: GENESIS.hex()} if first == 1 else {}

    def batch(self, batch: Batch) -> None:
        if batch.lines is None:
            raise Bad(self.seq, "its object cannot be read")
        if self.seq == self.first and self.first > 1:
            self._begin_midway(batch)
        self._lines(batch.lines)
        for checkpoint in batch.checkpoints:
            self._checkpoint(checkpoint)
        for seq, value in self._trust.anchors.items():
            if self._values.get(seq, value) != value:
                raise Bad(min(seq, self.signed_seq + 1), f"altered: the chain once stood elsewhere at record {seq}")
        if batch.segment is not None:
            self._close_segment()

    def _close_segment(self) -> None:
        if self.signed_seq < self.seq - 1:
            raise Bad(self.signed_seq + 1, "no checkpoint covers it, though its segment was closed")
        # Checkpoints of a segment name its own records and the one before it.
        self._values = {self.seq - 1: self.value.hex()}

    def contents(self, records: list[dict[str, Any]], kept: dict[int, Content | None]) -> None:
        for record in records:
            seq = record["seq"]
            if seq not in kept:
                self.erased += 1
            elif (content := kept[seq]) is None or content.digest() != record["content"]:
                raise Bad(seq, "its personal content was altered")

    def end(self, before: LedgerState | None, after: LedgerState | None, head: SignedCheckpoint | None) -> None:
        """Whoever knows that the chain went further is believed; the sealer may have gone on while we read."""
        last = self.seq - 1
        if head is not None:
            if not self._is_true(head):
                raise Bad(self.signed_seq + 1, "the newest checkpoint in the store is not ours")
            self._reaches(head.checkpoint.seq, head.checkpoint.chain)
        if before is not None:
            self._reaches(before.sealed, before.head.hex())
        if after is not None and after.sealed < last:
            raise Bad(after.sealed + 1, "nobody sealed it")
        if after is not None and after.sealed == last and after.head != self.value:
            raise Bad(self.signed_seq + 1, "altered: the sealer stands elsewhere")
        for seq in self._trust.anchors:
            self._reaches(seq, "")

    def _reaches(self, seq: int, value: str) -> None:
        if seq >= self.seq:
            raise Bad(self.seq, f"missing: the chain once reached record {seq}")
        known = self._values.get(seq)
        if value and known is not None and known != value:
            raise Bad(min(seq, self.signed_seq + 1), f"altered: the chain stood elsewhere at record {seq}")

    def _lines(self, lines: list[bytes]) -> None:
        """Of every step of a long chain this is taken, so it is one loop, without calls of our own."""
        take, sha256, keys, values = LINE.fullmatch, hashlib.sha256, self._trust.mark_keys, self._values
        for line in lines:
            if (found := take(line)) is None:
                raise Bad(self.seq, "not a record")
            chain, mark, record = found.groups()
            if not record.startswith(b'{"seq":%d,' % self.seq):
                raise Bad(self.seq, "missing, or out of order")
            self.value = sha256(self.value + sha256(record).digest()).digest()
            told = self.value.hex()
            if told.encode() != chain:
                raise Bad(self.seq, "altered")
            if keys and not any(mark_of(key, self.value) == mark for key in keys):
                raise Bad(self.seq, "altered, and the chain computed anew")
            values[self.seq] = told
            self.seq += 1

    def _checkpoint(self, line: bytes) -> None:
        try:
            signed = read_checkpoint(line)
        except ValueError as exc:
            raise Bad(self.signed_seq + 1, "a checkpoint cannot be read") from exc
        seq = signed.checkpoint.seq
        if not self._is_true(signed):
            raise Bad(self.signed_seq + 1, f"the checkpoint of record {seq} is not ours")
        if seq >= self.seq:
            raise Bad(self.seq, f"missing: the chain once reached record {seq}")
        if self._values.get(seq, signed.checkpoint.chain) != signed.checkpoint.chain:
            raise Bad(self.signed_seq + 1, f"altered before record {seq}, and the chain computed anew")
        if seq > self.signed_seq or self.signed is None:
            self.signed_seq, self.signed = max(seq, self.signed_seq), signed

    def _is_true(self, signed: SignedCheckpoint) -> bool:
        return signed.checkpoint.chain_id == self._chain_id and is_signed(signed, self._trust.public_keys)

    def _begin_midway(self, batch: Batch) -> None:
        """The segment's first checkpoint tells the value before it."""
        for line in batch.checkpoints:
            signed = read_checkpoint(line)
            if signed.checkpoint.seq == self.first - 1 and self._is_true(signed):
                self.value = bytes.fromhex(signed.checkpoint.chain)
                self._values[self.first - 1] = signed.checkpoint.chain
                return
        raise Bad(self.first, "no checkpoint tells the chain before it")
