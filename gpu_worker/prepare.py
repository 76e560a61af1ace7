"""The rewriter behind an OpenAI-compatible chat endpoint: a short prompt of any language becomes a rich English one."""

import asyncio
import logging
from typing import Any

import httpx2

from video_jobs.errors import RewriterUnavailable
from video_jobs.rewriting import INSTRUCTION, clean_rewrite
from video_jobs.settings import PromptSettings

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 8.0
MAX_ANSWER_TOKENS = 400
MAX_ANSWER_BYTES = 1 << 18

logger = logging.getLogger(__name__)


class HttpRewriter:
    def __init__(self, settings: PromptSettings, first_pause_s: float = FIRST_PAUSE_SECONDS) -> None:
        self.name = f"http:{settings.rewriter_model}"
        self._model = settings.rewriter_model
        self._tries = settings.rewriter_retries + 1
        self._first_pause_s = first_pause_s
        key = settings.rewriter_key
        self._timeout_s = settings.rewriter_timeout_s
        self._url = (settings.rewriter_url or "").rstrip("/") + "/chat/completions"
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {key.get_secret_value()}"} if key else {},
            timeout=self._timeout_s,
        )

    async def rewrite(self, prompt: str) -> str:
        """The rewritten prompt; RewriterUnavailable once every try has failed."""
        pause_s = self._first_pause_s
        for tried in range(1, self._tries + 1):
            try:
                async with asyncio.timeout(self._timeout_s):
                    return clean_rewrite(await self._ask(prompt), prompt)
            except (httpx2.HTTPError, TimeoutError, ValueError, LookupError, TypeError) as exc:
                logger.warning("rewriter failed", extra={"tried": tried, "error": type(exc).__name__})
                if tried == self._tries:
                    raise RewriterUnavailable from exc
            await asyncio.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_SECONDS, 2 * pause_s)
        raise RewriterUnavailable

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, prompt: str) -> str:
        said = [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": prompt}]
        body = {"model": self._model, "messages": said, "max_tokens": MAX_ANSWER_TOKENS, "temperature": 0}
        answer = await self._client.post(self._url, json=body)
        answer.raise_for_status()
        if len(answer.content) > MAX_ANSWER_BYTES:
            raise ValueError("the rewriter's answer is too long")
        return _text_of(answer.json())


def _text_of(reply: Any) -> str:
    text = reply["choices"][0]["message"]["content"]
    if not isinstance(text, str) or not text.strip():
        raise ValueError("the rewriter answered without text")
    return text
