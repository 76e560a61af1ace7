"""Checks what a worker alone sees, before anything is published: the rewritten prompt, frames of the finished video."""

import asyncio
from pathlib import Path

from video_jobs.errors import ContentRefused, ModerationUnavailable
from video_jobs.job import Job
from video_jobs.policy.moderation import Asked, Moderator, Subject, Verdict
from video_jobs.policy.words import WordLists

SAMPLES = "sample-*.jpg"
PAUSES_SECONDS = (0.5, 2.0, 8.0, 20.0)


class ContentCheck:
    def __init__(self, words: WordLists | None = None, moderator: Moderator | None = None) -> None:
        self.words, self._moderator = words, moderator

    def samples(self, job: Job) -> int:
        """How many frames the finisher has to put by."""
        return self._moderator.frames if self._moderator and job.policy.moderation else 0

    async def prompt(self, job: Job, text: str) -> None:
        """ContentRefused if the prompt as rewritten may not be rendered."""
        policy = job.policy
        if policy.words and self.words and self.words.matcher.find(text, policy.lists):
            raise ContentRefused("sensitive words", Subject.REWRITTEN_PROMPT.value)
        if policy.moderation and self._moderator is None:
            _unasked(job, Subject.REWRITTEN_PROMPT)
        elif policy.moderation and self._moderator:
            verdict = await self._moderator.judge(Subject.REWRITTEN_PROMPT, _asked(job), policy.fails, text)
            _heed(verdict, Subject.REWRITTEN_PROMPT)

    async def video(self, job: Job, folder: Path) -> dict[str, str]:
        """ContentRefused if the video may not be shown; otherwise what the record says of the check."""
        if job.policy.moderation and self._moderator is None:
            return _unasked(job, Subject.VIDEO)
        if not self.samples(job) or self._moderator is None:
            return {}
        frames = await asyncio.to_thread(lambda: [path.read_bytes() for path in sorted(folder.glob(SAMPLES))])
        verdict = await self._judge_video(self._moderator, job, frames)
        _heed(verdict, Subject.VIDEO)
        return {"moderation": "passed" if verdict.is_answered else "unanswered"}

    async def _judge_video(self, moderator: Moderator, job: Job, frames: list[bytes]) -> Verdict:
        """A clip that cost minutes is not rendered again because the service was away for a moment."""
        for pause_s in PAUSES_SECONDS:
            try:
                return await moderator.judge(Subject.VIDEO, _asked(job), job.policy.fails, images=frames)
            except ModerationUnavailable:
                await asyncio.sleep(pause_s)
        return await moderator.judge(Subject.VIDEO, _asked(job), job.policy.fails, images=frames)

    async def close(self) -> None:
        if self._moderator:
            await self._moderator.close()


def _asked(job: Job) -> Asked:
    return Asked(tenant=job.tenant, task_id=job.id, user_id=job.user_id, model=job.spec.model)


def _unasked(job: Job, subject: Subject) -> dict[str, str]:
    """This worker was told of no service, though the gateway that accepted the job was."""
    if subject.value not in job.policy.checks:
        return {}
    if job.policy.fails == "closed":
        raise ModerationUnavailable("this worker knows no moderation service")
    return {"moderation": "unanswered"}


def _heed(verdict: Verdict, subject: Subject) -> None:
    if not verdict.allowed:
        raise ContentRefused(verdict.reason, subject.value, verdict.level)
