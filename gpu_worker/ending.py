"""How one attempt ended, told to the store, the metrics, the traces and the log."""

import logging
import time
from collections.abc import Mapping
from types import MappingProxyType

from redis.exceptions import RedisError

from gpu_worker.patience import patiently
from gpu_worker.workshop import Workshop
from video_jobs.cost import measured_seconds
from video_jobs.job import Claim, JobRecord, JobState, Outcome
from video_jobs.tenants import TenantBook
from video_jobs.verdicts import Charge, Requeue

NO_STAGES: Mapping[str, float] = MappingProxyType({})

logger = logging.getLogger(__name__)


class Ending:
    def __init__(self, shop: Workshop, claim: Claim) -> None:
        self._shop, self._claim = shop, claim
        self._claimed_s = time.time()
        self._record: JobRecord | None = None

    def claimed(self, record: JobRecord) -> None:
        self._record = record
        self._shop.metrics.claimed(record)
        logger.info("job claimed", extra={"token": self._claim.token, "attempt": len(record.attempts)})

    async def publish(self, outcome: Outcome) -> bool:
        """Whether it counts: not if another worker holds the job by now."""
        published = await patiently(lambda: self._shop.store.finish(self._claim, outcome))
        how = outcome.state.value if published else "refused"
        self._tell(how, outcome.rendered.stage_seconds, has_ended=published)
        if published and self._record is not None:
            await self._charge(self._record.job.tenant, outcome)
        logger.info(
            "job ended" if published else "result refused",
            extra={"token": self._claim.token, "state": outcome.state.value},
        )
        return published

    async def _charge(self, tenant: str, outcome: Outcome) -> None:
        try:
            terms = await TenantBook(self._shop.store).terms(tenant)
        except (RedisError, OSError):
            return  # The book of usage has it; a count is not worth waiting for.
        device_s = measured_seconds(outcome.rendered.stage_seconds) or 0.0
        self._shop.metrics.used(terms.plan, device_s, outcome.state is JobState.SUCCEEDED)

    async def requeue(self, why: str, charge: Charge, detail: str = "") -> bool:
        """Hand the job back; whether it has ended with that."""
        how = await patiently(lambda: self._shop.store.requeue(self._claim, why, charge, detail))
        self._tell(why, has_ended=how is Requeue.FAILED)
        logger.warning("job handed back", extra={"why": why, "detail": detail, "how": how.value})
        return how in (Requeue.FAILED, Requeue.CANCELLED)

    def lost(self) -> None:
        logger.warning("attempt dropped")
        self._tell("lost")

    def _tell(self, how: str, stage_seconds: Mapping[str, float] = NO_STAGES, has_ended: bool = False) -> None:
        self._shop.metrics.ended(how, stage_seconds, self._record if has_ended else None)
        if self._record is not None:
            self._shop.traces.attempt(self._record, self._claimed_s, how, stage_seconds)
