"""Errors as Zhipu's clients read them: `{"error": {"code", "message"}}`, in Chinese, or in English when asked."""

import json
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from server.refusal import Refusal
from server.zhipu.words import DETAILS, JOB_ERRORS, OTHER_JOB_ERROR, TABLE


class Utf8Json(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        # Clients show the raw text: Chinese must stay readable.
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def prefers_english(request: Request) -> bool:
    return request.headers.get("accept-language", "").strip().lower().startswith("en")


def answer(request: Request, refusal: Refusal) -> Utf8Json:
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
    known = DETAILS.get(refusal.detail)
    detail = known[english] if known else (f"{': ' if english else '：'}{refusal.detail}" if refusal.detail else "")
    message = (row.en if english else row.zh).format(field=refusal.field, detail=detail, **refusal.values)
    status = refusal.status or row.status
    headers = {"x-should-retry": "true" if row.should_retry else "false"}
    if status == 503:
        headers["Retry-After"] = "5"
    return Utf8Json({"error": {"code": refusal.code, "message": message}}, status_code=status, headers=headers)
