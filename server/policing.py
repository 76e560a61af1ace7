"""What a request has to pass besides limits: its end user's standing, sensitive words, the moderation service."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from server.preview import preview
from server.refusal import Refusal
from video_jobs.errors import ModerationUnavailable
from video_jobs.job import ImageRef, Job
from video_jobs.policy.moderation import Asked, Moderator, Subject, Verdict
from video_jobs.policy.terms import JobPolicy, TenantPolicy
from video_jobs.policy.users import Measure, UserBook
from video_jobs.policy.words import WordLists
from video_jobs.results import ResultStore
from video_jobs.tenants import TenantBook

WORD_LEVEL = 1


class Pass(NamedTuple):
    """How the job will be checked, and what its end user is warned of."""

    policy: JobPolicy
    warning: str = ""


class ContentPolicy:
    def __init__(
        self, book: TenantBook, users: UserBook, words: WordLists, moderator: Moderator | None, results: ResultStore
    ) -> None:
        self.words, self.moderator = words, moderator
        self._book, self.users, self._results = book, users, results

    async def admit(self, tenant: str, user_id: str | None, prompt: str, word_check: Any) -> Pass:
        """Before anything is reserved: the end user's standing, then the words, which cost next to nothing."""
        warning = await self._standing(tenant, user_id) if user_id else ""
        terms = (await self._book.lately(tenant)).policy or TenantPolicy()
        is_off = terms.caller_may_disable and _asks_for_none(word_check)
        has_words = terms.words and len(self.words.matcher) > 0
        policy = JobPolicy(
            words=has_words and not is_off,
            lists=terms.lists,
            moderation=terms.moderation and self.moderator is not None,
            checks=tuple(sorted(self.moderator.checks)) if terms.moderation and self.moderator else (),
            fails=terms.moderation_fails or (self.moderator.fails if self.moderator else "closed"),
            verdicts={"words": "switched off by the caller" if is_off else "passed"} if has_words else {},
        )
        if policy.words and (hit := self.words.matcher.find(prompt, policy.lists)):
            raise refused(WORD_LEVEL, {"list": hit.list_name, "matched": hit.word})
        return Pass(policy, warning)

    async def moderate_prompt(self, job: Job) -> Job:
        if not self._asks(job, Subject.PROMPT) or not job.spec.prompt:
            return job
        return await self._moderate(job, Subject.PROMPT, job.spec.prompt)

    async def moderate_image(self, job: Job, image: ImageRef) -> Job:
        if not self._asks(job, Subject.IMAGE):
            return job
        with tempfile.NamedTemporaryFile(suffix=".png") as held:
            return await self._moderate(job, Subject.IMAGE, "", [await preview(self._results, image, Path(held.name))])

    def _asks(self, job: Job, subject: Subject) -> bool:
        return job.policy.moderation and self.moderator is not None and subject in self.moderator.checks

    async def _moderate(
        self, job: Job, subject: Subject, text: str, images: tuple[bytes, ...] | list[bytes] = ()
    ) -> Job:
        assert self.moderator is not None  # noqa: S101  # only then does a job ask for moderation
        asked = Asked(tenant=job.tenant, task_id=job.id, user_id=job.user_id, model=job.spec.model)
        try:
            verdict = await self.moderator.judge(subject, asked, job.policy.fails, text, images)
        except ModerationUnavailable as exc:
            raise Refusal.unavailable() from exc
        if not verdict.allowed:
            raise refused(verdict.level, {"check": subject.value, "reason": verdict.reason})
        verdicts = job.policy.verdicts | {subject.value: _word(verdict)}
        return job.model_copy(update={"policy": job.policy.model_copy(update={"verdicts": verdicts})})

    async def _standing(self, tenant: str, user_id: str) -> str:
        standing = await self.users.check(tenant, user_id)
        if standing is None:
            return ""
        held = standing.restriction
        if held.measure is Measure.BLOCK:
            raise Refusal("1300", detail=held.reason, told={"measure": "block"})
        if standing.wait_s > 0:
            raise Refusal("1302", detail="user_throttled", wait_s=standing.wait_s, told={"measure": "throttle"})
        return held.reason if held.measure is Measure.WARN else ""


def refused(level: int, told: Mapping[str, str]) -> Refusal:
    beside = {"contentFilter": [{"level": level, "role": "user"}]}
    return Refusal("1301", beside=beside, told={name: text for name, text in told.items() if text})


def _asks_for_none(word_check: Any) -> bool:
    return isinstance(word_check, dict) and str(word_check.get("status", "")).upper() == "DISABLE"


def _word(verdict: Verdict) -> str:
    return "passed" if verdict.is_answered else "unanswered"
