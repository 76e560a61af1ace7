"""Personal content: kept apart from its record under a salted digest, so that it can go and the chain still holds."""

import hashlib
import hmac
import json
import secrets
from enum import StrEnum
from typing import Any

from video_jobs.job import Frozen

SALT_BYTES = 16
PROMPTS = ("prompt", "rendered_prompt")


class PromptForm(StrEnum):
    """What the audit keeps of a prompt."""

    KEPT = "kept"
    HASHED = "hashed"
    REDACTED = "redacted"


class Content(Frozen):
    """What one record tells about a person, and the salt without which its digest says nothing."""

    seq: int
    tenant: str = ""
    user_id: str = ""
    salt: str
    said: dict[str, Any]

    def digest(self) -> str:
        return hashlib.sha256(bytes.fromhex(self.salt) + to_json(self.said, sort_keys=True).encode()).hexdigest()


def salted(seq: int, tenant: str, user_id: str, said: dict[str, Any]) -> Content:
    return Content(seq=seq, tenant=tenant, user_id=user_id, salt=secrets.token_hex(SALT_BYTES), said=said)


def shape_prompts(said: dict[str, Any], form: PromptForm, key: bytes) -> dict[str, Any]:
    """Prompts as the operator wants them kept: a keyed hash still answers whether a given prompt was the one."""
    if form is PromptForm.KEPT:
        return said
    shaped = {name: value for name, value in said.items() if name not in PROMPTS}
    for name in PROMPTS:
        if not isinstance(prompt := said.get(name), str):
            continue
        shaped[f"{name}_characters"] = len(prompt)
        if form is PromptForm.HASHED:
            shaped[f"{name}_hmac_sha256"] = hmac.digest(key, prompt.encode(errors="replace"), "sha256").hex()
    return shaped


# Made once: json.dumps makes an encoder for each call.
_AS_IT_IS = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_SORTED = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def to_json(value: Any, sort_keys: bool = False) -> str:
    return (_SORTED if sort_keys else _AS_IT_IS).encode(value)
