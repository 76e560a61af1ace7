"""The sealer: one gateway at a time chains what was appended, signs checkpoints and exports whole hours."""

import asyncio
import logging
import secrets
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from video_jobs.audit.archive import Archive
from video_jobs.audit.chain import SigningKey
from video_jobs.audit.content import Content, PromptForm
from video_jobs.audit.entries import Place, shape
from video_jobs.audit.erase import erase_content
from video_jobs.audit.export import Exporter
from video_jobs.audit.ledger import Erasure, Ledger, Sealed, Turn
from video_jobs.logs import dependency_of

SEAL_EVERY_SECONDS, TURN_SECONDS, STORE_PAUSE_SECONDS = 1.0, 10.0, 10.0
BATCH = 500

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SealerTerms:
    prompts: PromptForm
    checkpoint_s: float
    backlog: int


class Sealer:
    def __init__(self, ledger: Ledger, archive: Archive, key: SigningKey, terms: SealerTerms) -> None:
        self._ledger, self._archive, self._key, self._terms = ledger, archive, key, terms
        self._holder = secrets.token_hex(8)
        self._exporter = Exporter(ledger, archive, key, terms.backlog)
        self._exporting: asyncio.Task[None] | None = None

    async def run(self, every_s: float = SEAL_EVERY_SECONDS) -> None:
        """Seal until cancelled; Redis or the store being away is not the sealer's end."""
        try:
            while True:
                try:
                    await self.work()
                except (RedisError, OSError) as exc:
                    logger.warning("sealer waits", extra={"dependency": dependency_of(exc), "error": repr(exc)})
                await asyncio.sleep(every_s)
        finally:
            if self._exporting is not None:
                self._exporting.cancel()
            try:
                await self._ledger.leave_turn(self._holder)
            except (RedisError, OSError):
                logger.info("the turn to seal ends with its lease")

    async def work(self) -> Turn | None:
        """One round, if it is our turn: seal all there is, sign when due, export and erase beside it."""
        turn = await self._ledger.take_turn(self._holder, TURN_SECONDS, self._terms.backlog)
        if turn is None:
            return None
        # Read first: whatever was appended before a wish came is sealed, and so found, when it is fulfilled.
        wishes = await self._ledger.erasures()
        sealed = await self._seal_all(turn)
        if sealed is None:
            return None
        if sealed.now_ms - sealed.signed_ms >= self._terms.checkpoint_s * 1000:
            await self._sign(sealed)
        # Sealing goes on while a slow store takes the hour's objects; erasing never runs beside an export.
        if self._exporting is None or self._exporting.done():
            self._exporting = asyncio.create_task(self._export_and_erase(sealed, wishes))
        return sealed

    async def settle(self) -> None:
        """Wait for what this sealer began in the store."""
        if self._exporting is not None:
            await self._exporting

    async def _seal_all(self, turn: Turn) -> Turn | None:
        while raw := await self._ledger.raw(BATCH):
            lines, head = await asyncio.to_thread(self._seal, raw, turn)
            if not await self._ledger.seal(turn, Sealed(turn.sealed + 1, head, lines, None)):
                logger.warning("another sealer was faster")
                return None
            turn = turn._replace(sealed=turn.sealed + len(raw), head=head)
        return turn

    def _seal(self, raw: list[bytes], turn: Turn) -> tuple[list[tuple[bytes, Content | None]], bytes]:
        lines: list[tuple[bytes, Content | None]] = []
        head = turn.head
        for seq, entry in enumerate(raw, turn.sealed + 1):
            record, content = shape(entry, self._terms.prompts, self._key.prompt_key, Place(seq, turn.now_ms))
            line, head = self._key.seal(head, record)
            lines.append((line, content))
        return lines, head

    async def _sign(self, turn: Turn) -> None:
        """In Redis, in the store and in the log: who wants to cut the chain must reach all three."""
        signed = self._key.sign(turn.chain_id, turn.sealed, turn.head.hex(), turn.now_ms)
        await self._ledger.seal(turn, Sealed(turn.sealed + 1, turn.head, [], signed))
        logger.info(
            "audit checkpoint", extra=signed.checkpoint.model_dump() | {"checkpoint_signature": signed.signature}
        )
        try:
            await asyncio.to_thread(self._archive.put_head, signed)
        except OSError as exc:
            logger.warning("the store has no newest checkpoint", extra={"dependency": "store", "error": repr(exc)})

    async def _export_and_erase(self, turn: Turn, wishes: list[Erasure]) -> None:
        is_done = await self._try("export waits", self._exporter.export(turn))
        for wanted in wishes:
            # An object that cannot be read keeps one wish waiting, and not the others.
            erasing = erase_content(self._ledger, self._archive, wanted)
            is_done = await self._try("erasing waits", erasing) and is_done
        if not is_done:
            await asyncio.sleep(STORE_PAUSE_SECONDS)

    async def _try(self, otherwise: str, act: Coroutine[Any, Any, None]) -> bool:
        try:
            await act
        except (RedisError, OSError) as exc:
            logger.warning(otherwise, extra={"dependency": dependency_of(exc), "error": repr(exc)})
            return False
        except ValueError as exc:
            logger.error(otherwise, extra={"error": repr(exc)})
            return False
        return True
