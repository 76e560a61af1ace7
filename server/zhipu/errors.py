"""Errors as Zhipu's clients read them: `{"error": {"code", "message"}}`, in Chinese, or in English when asked."""

import json
import logging
import math
import secrets
from collections import defaultdict
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from server.refusal import Refusal
from server.zhipu.words import DETAILS, JOB_ERRORS, OTHER_JOB_ERROR, TABLE, UNITS

logger = logging.getLogger(__name__)
# JSON means the same with these written out, and no page that shows the raw text reads them as its own.
ESCAPED = {ord("<"): "\\u003c", ord(">"): "\\u003e", 0x2028: "\\u2028", 0x2029: "\\u2029"}
# The SDKs try four times within this and heed no Retry-After.
RETRIED_WITHIN_SECONDS = 7


class Utf8Json(Response):
    media_type = "application/json"

    def __init__(self, content: Any, status_code: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(content, status_code, {"X-Content-Type-Options": "nosniff"} | (headers or {}))

    def render(self, content: Any) -> bytes:
        # Clients show the raw text: Chinese must stay readable.
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return text.translate(ESCAPED).encode(errors="replace")


def prefers_english(request: Request) -> bool:
    return request.headers.get("accept-language", "").strip().lower().startswith("en")


def answer(request: Request, refusal: Refusal) -> Utf8Json:
    request.state.refused, request.state.told = refusal.code, refusal.told
    return _word(refusal, prefers_english(request))


def plain_answer(refusal: Refusal) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of a refusal that no request could be read for."""
    said = _word(refusal, english=False)
    return said.status_code, said.raw_headers, bytes(said.body)


def job_error(code: str | None, english: bool) -> dict[str, str]:
    zhipu_code, zh, en = JOB_ERRORS.get(code or "", OTHER_JOB_ERROR)
    return {"code": zhipu_code, "message": en if english else zh}


def _word(refusal: Refusal, english: bool) -> Utf8Json:
    row = TABLE[refusal.code]
    status = refusal.status or row.status
    should_retry = row.should_retry if refusal.wait_s is None else refusal.wait_s <= RETRIED_WITHIN_SECONDS
    headers = {"x-should-retry": "true" if should_retry else "false"} | refusal.headers
    if status == 503:
        headers["Retry-After"] = "5"
    elif refusal.wait_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(refusal.wait_s)))
    message = _message(refusal, english) + _detail(refusal.detail, english)
    return Utf8Json(refusal.beside | {"error": {"code": refusal.code, "message": message}}, status, headers)


def _message(refusal: Refusal, english: bool) -> str:
    row = TABLE[refusal.code]
    words, values = row.en if english else row.zh, defaultdict(str, refusal.values, field=refusal.field)
    if values["unit"]:
        values["unit"] = UNITS[values["unit"]][english]
    if "{error_id}" in words:
        values["error_id"] = secrets.token_hex(8)
        logger.warning("answered that the service failed", extra={"error_id": values["error_id"]})
    return words.format_map(values).replace("  ", " ").strip()


def _detail(detail: str, english: bool) -> str:
    """A known reason in words, or the allowed values as they are."""
    if detail in DETAILS:
        return DETAILS[detail][english]
    return f"{': ' if english else '：'}{detail}" if detail else ""
