"""What a gateway tells the audit besides the job's own changes: refusals, polls, links given out, operators' calls."""

import asyncio
import logging
import time
from collections import Counter

from redis.exceptions import RedisError

from video_jobs.audit.ledger import Ledger
from video_jobs.job import Frozen

REFUSALS_PER_MINUTE = 60
FLUSH_SECONDS = 5.0
MAX_AGENT_CHARACTERS = 256

logger = logging.getLogger(__name__)


class Origin(Frozen):
    """Where a request came from."""

    client: str = ""
    user_agent: str = ""


class Who(Frozen):
    """On whose behalf."""

    tenant: str = ""
    key_id: str = ""
    user_id: str | None = None
    request_id: str | None = None


class AuditLog:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._counts: Counter[str] = Counter()
        self._told: tuple[int, Counter[str]] = (0, Counter())

    async def refused(self, who: Who, origin: Origin, code: str, route: str, **more: str) -> None:
        """One by one up to the limit of a minute and key, then counted."""
        counted_as = f"refused:{who.key_id}:{code}"
        if self._is_over(who.key_id):
            self._counts[counted_as] += 1
            return
        entry = {"event": "refused", "detail": code, "route": route} | more
        entry |= who.model_dump(exclude_none=True) | origin.model_dump()
        await self._ledger.note(entry, who.key_id, REFUSALS_PER_MINUTE, counted_as)

    def refused_anonymous(self, code: str) -> None:
        """Counted in memory: a flood of strangers costs the audit one write every few seconds."""
        self._counts[f"anonymous:{code}"] += 1

    def polled(self, tenant: str) -> None:
        self._counts[f"polls:{tenant}"] += 1

    async def issued(self, job_id: str, who: Who, origin: Origin) -> None:
        """This caller gets the links of this job's result; told before they leave."""
        entry = {"event": "link issued", "task_id": job_id} | who.model_dump(exclude_none=True) | origin.model_dump()
        await self._ledger.issue(job_id, who.key_id, entry)

    async def admin(self, by: str, call: str, detail: str = "", origin: Origin = Origin(), tenant: str = "") -> None:  # noqa: B008
        """An operator's call, by the admin API or the command line."""
        entry = {"event": "admin", "detail": call, "about": detail, "key_id": by, "tenant": tenant}
        await self._ledger.note(entry | origin.model_dump())

    async def flush(self) -> None:
        counts, self._counts = self._counts, Counter()
        try:
            await self._ledger.count(counts)
        except (RedisError, OSError):
            self._counts.update(counts)
            raise

    async def run(self) -> None:
        """Write the counters down every few seconds until cancelled, and once more then."""
        try:
            while True:
                await asyncio.sleep(FLUSH_SECONDS)
                await self._try_to_flush()
        finally:
            await self._try_to_flush()

    async def _try_to_flush(self) -> None:
        try:
            await self.flush()
        except (RedisError, OSError) as exc:
            logger.warning("counters wait for redis", extra={"dependency": "redis", "error": type(exc).__name__})

    def _is_over(self, key_id: str) -> bool:
        """Whether this gateway alone has used the key's limit up: then Redis need not be asked."""
        minute = int(time.time() // 60)
        if self._told[0] != minute:
            self._told = (minute, Counter())
        self._told[1][key_id] += 1
        return self._told[1][key_id] > REFUSALS_PER_MINUTE
