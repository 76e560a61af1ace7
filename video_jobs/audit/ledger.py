"""The audit as it lies in Redis: raw entries, sealed ones that are not yet exported, and whose turn it is to seal."""

import secrets
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, cast

from redis.asyncio import Redis

from video_jobs import keys
from video_jobs.audit.chain import GENESIS, SignedCheckpoint
from video_jobs.audit.content import Content, to_json
from video_jobs.job import Frozen

_SCRIPTS = Path(__file__).parent / "scripts"
_KEYS = [
    *(keys.AUDIT, keys.AUDIT_SEQ, keys.AUDIT_STATE, keys.AUDIT_SEALED, keys.AUDIT_CONTENT, keys.AUDIT_CHECKPOINTS),
    *(keys.AUDIT_COUNTS, keys.AUDIT_NONCE, keys.JOB),
]
SLICE = 2000


class Turn(NamedTuple):
    """The right to seal, and the chain it holds for. A newer fence ends it."""

    fence: int
    chain_id: str
    sealed: int
    head: bytes
    exported: int
    planned: int
    signed_ms: int
    now_ms: int


class Sealed(NamedTuple):
    """What a sealer made of the next raw entries."""

    first: int
    head: bytes
    lines: list[tuple[bytes, Content | None]]
    checkpoint: SignedCheckpoint | None


class Erasure(Frozen):
    """Somebody's wish that one end user's content be deleted."""

    id: str
    tenant: str
    user_id: str
    by: str


class LedgerState(NamedTuple):
    chain_id: str
    newest: int
    sealed: int
    head: bytes
    exported: int


class Ledger:
    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        prelude = (_SCRIPTS / "ledger.lua").read_text()
        self._scripts = {
            path.stem: redis.register_script(prelude + path.read_text())
            for path in _SCRIPTS.glob("*.lua")
            if path.stem != "ledger"
        }

    async def note(self, entry: Mapping[str, Any], whose: str = "", limit: int = 0, counted_as: str = "") -> bool:
        """Append an entry; False when the limit of its kind had been reached and it was counted instead."""
        nonce = secrets.token_hex(8)
        # A refused request may have held half a surrogate pair.
        text = to_json(entry).encode(errors="replace")
        return bool(await self._run("note", nonce, text, whose, limit, counted_as))

    async def count(self, counts: Mapping[str, int]) -> None:
        if counts:
            await self._run("count", secrets.token_hex(8), *(part for pair in counts.items() for part in pair))

    async def issue(self, job_id: str, key_id: str, entry: Mapping[str, Any]) -> None:
        """Append that this caller was given the links of this job, the first time it is."""
        await self._run("issue", job_id, key_id, to_json(entry))

    async def take_turn(self, holder: str, lease_s: float, cap: int) -> Turn | None:
        """Be the sealer, or stay it; None while somebody else is."""
        said = await self._run("turn", holder, round(lease_s * 1000), cap, _new_chain_id())
        if not said:
            return None
        fence, chain_id, sealed, head, exported, planned, signed_ms, now_ms = said
        numbers = (int(exported), int(planned), int(signed_ms), int(now_ms))
        return Turn(int(fence), chain_id.decode(), int(sealed), bytes.fromhex(head.decode()), *numbers)

    async def leave_turn(self, holder: str) -> None:
        await self._run("leave", holder)

    async def raw(self, count: int) -> list[bytes]:
        """The oldest entries that are not sealed."""
        return await cast(Awaitable[list[bytes]], self.redis.lrange(keys.AUDIT, 0, count - 1))

    async def seal(self, turn: Turn, sealed: Sealed) -> bool:
        """Onto the chain, if it still stands where the sealer started; False if another was faster."""
        checkpoint = sealed.checkpoint.line() if sealed.checkpoint else b""
        pairs = [
            part for line, content in sealed.lines for part in (line, content.model_dump_json() if content else "")
        ]
        return bool(await self._run("seal", turn.fence, sealed.first, sealed.head.hex(), checkpoint, *pairs))

    async def plan(self, turn: Turn, last: int) -> int:
        return int(await self._run("plan", turn.fence, last))

    async def exported(self, turn: Turn, last: int, boundary: SignedCheckpoint) -> bool:
        return bool(await self._run("exported", turn.fence, last, boundary.line()))

    async def boundary(self) -> list[bytes]:
        """The checkpoint of the last exported record; none before the first export."""
        line = await cast(Awaitable[bytes | None], self.redis.hget(keys.AUDIT_STATE, "boundary"))
        return [line] if line else []

    async def ask_to_erase(self, wanted: Erasure) -> None:
        await cast(Awaitable[int], self.redis.rpush(keys.AUDIT_ERASURES, wanted.model_dump_json()))

    async def erasures(self) -> list[Erasure]:
        """What the sealer was asked to erase and has not yet."""
        found = await cast(Awaitable[list[bytes]], self.redis.lrange(keys.AUDIT_ERASURES, 0, -1))
        return [Erasure.model_validate_json(text) for text in found]

    async def erased(self, done: Erasure) -> None:
        await cast(Awaitable[int], self.redis.lrem(keys.AUDIT_ERASURES, 0, done.model_dump_json()))

    async def state(self) -> LedgerState:
        wanted = ["chain_id", "sealed", "head", "exported"]
        found = await cast(Awaitable[list[bytes | None]], self.redis.hmget(keys.AUDIT_STATE, wanted))
        chain_id, sealed, head, exported = (value.decode() if value else "" for value in found)
        newest = int(await self.redis.get(keys.AUDIT_SEQ) or 0)
        return LedgerState(
            chain_id, newest, int(sealed or 0), bytes.fromhex(head) if head else GENESIS, int(exported or 0)
        )

    async def lines(self, exported: int, start: int, count: int) -> list[bytes] | None:
        """Sealed lines from the oldest that is not exported; None if others have been exported meanwhile."""
        async with self.redis.pipeline(transaction=True) as pipe:
            pipe.hget(keys.AUDIT_STATE, "exported")
            pipe.lrange(keys.AUDIT_SEALED, start, start + count - 1)
            stands_at, found = await pipe.execute()
        return found if int(stands_at or 0) == exported else None

    async def contents(self, seqs: Iterable[int]) -> list[Content]:
        wanted = [str(seq) for seq in seqs]
        if not wanted:
            return []
        found = await cast(Awaitable[list[bytes | None]], self.redis.hmget(keys.AUDIT_CONTENT, wanted))
        return [Content.model_validate_json(text) for text in found if text]

    async def forget(self, seqs: Sequence[int]) -> None:
        """Delete personal content for good; the chain holds its salted digests alone."""
        for start in range(0, len(seqs), SLICE):
            names = [str(seq) for seq in seqs[start : start + SLICE]]
            await cast(Awaitable[int], self.redis.hdel(keys.AUDIT_CONTENT, *names))

    async def checkpoints(self) -> dict[int, bytes]:
        found = await cast(Awaitable[dict[bytes, bytes]], self.redis.hgetall(keys.AUDIT_CHECKPOINTS))
        return {int(seq): line for seq, line in sorted(found.items(), key=lambda item: int(item[0]))}

    async def _run(self, script: str, *args: Any) -> Any:
        return await self._scripts[script](keys=_KEYS, args=list(args))


def _new_chain_id() -> str:
    """Sorts by time: a Redis that lost its audit begins another chain, and readers see both."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z-{secrets.token_hex(4)}"
