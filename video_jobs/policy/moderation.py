"""The operator's moderation service: asked by HTTP about prompts, images and frames; what its silence means is set."""

import asyncio
import base64
import json
import logging
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import httpx2
from pydantic import Field, ValidationError

from video_jobs.errors import ModerationUnavailable
from video_jobs.job import Frozen
from video_jobs.policy.terms import Fails
from video_jobs.settings import PolicySettings

MAX_ANSWER_BYTES = 1 << 16

logger = logging.getLogger(__name__)


class Subject(StrEnum):
    """What the service is asked about."""

    PROMPT = "prompt"
    REWRITTEN_PROMPT = "rewritten_prompt"
    IMAGE = "image"
    VIDEO = "video"


class Asked(Frozen):
    """For whom something is checked."""

    tenant: str
    task_id: str
    user_id: str | None = None
    model: str = ""


class Verdict(Frozen):
    """The service's answer. Level 0 is the worst, 3 the least, as the contract counts them."""

    allowed: bool
    level: int = Field(default=1, ge=0, le=3)
    reason: str = Field(default="", max_length=500)
    is_answered: bool = True


class Moderator:
    def __init__(self, settings: PolicySettings) -> None:
        key = settings.moderation_key
        self._url = settings.moderation_url or ""
        self._timeout_s = settings.moderation_timeout_s
        self.checks = frozenset(Subject(name) for name in settings.moderation_checks)
        self.fails: Fails = settings.moderation_fails
        self.frames = settings.moderation_frames if Subject.VIDEO in self.checks else 0
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {key.get_secret_value()}"} if key else {},
            timeout=self._timeout_s,
            follow_redirects=False,
            trust_env=False,
        )

    async def judge(
        self, subject: Subject, asked: Asked, fails: Fails, text: str = "", images: Sequence[bytes] = ()
    ) -> Verdict:
        """The verdict; without one, allowed by `open`, and ModerationUnavailable by `closed`."""
        if subject not in self.checks:
            return Verdict(allowed=True)
        pictures = [{"content_type": "image/jpeg", "data": base64.b64encode(image).decode()} for image in images]
        body = {"subject": subject.value, **asked.model_dump(), "text": text, "images": pictures}
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._ask(body)
        except (httpx2.HTTPError, TimeoutError, ValidationError, ValueError) as exc:
            logger.warning("no verdict", extra={"subject": subject.value, "error": type(exc).__name__, "fails": fails})
            if fails == "closed":
                raise ModerationUnavailable from exc
            return Verdict(allowed=True, is_answered=False)

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, body: dict[str, Any]) -> Verdict:
        answer = await self._client.post(self._url, json=body)
        answer.raise_for_status()
        if len(answer.content) > MAX_ANSWER_BYTES:
            raise ValueError("the verdict is too long")
        return Verdict.model_validate(json.loads(answer.content)).model_copy(update={"is_answered": True})


def open_moderator(settings: PolicySettings) -> Moderator | None:
    return Moderator(settings) if settings.moderation_url else None
