"""A raw entry, as the scripts append it, becomes a record for good and the personal content that may be deleted."""

import hashlib
import json
from typing import Any, NamedTuple

from video_jobs.audit.content import Content, PromptForm, salted, shape_prompts
from video_jobs.cost import measured_seconds

SHAPED = ("job", "outcome", "origin")
PARAMETERS = ("quality", "width", "height", "fps", "duration_s", "with_audio", "watermark", "seed")
PERSONAL = ("client", "user_agent", "prompt", "rendered_prompt", "reason", "matched")


# What a record that is not ours, or another release's, may raise while it is read.
MISREAD = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
LATEST_MS = 1 << 47


class Place(NamedTuple):
    """The number and time of an entry that does not tell its own."""

    seq: int
    at_ms: int


def shape(raw: bytes, form: PromptForm, key: bytes, place: Place) -> tuple[dict[str, Any], Content | None]:
    """The record, and its content if it has any. The number comes first, so that a reader finds it without parsing.

    One entry that cannot be read must not keep the others from being sealed: it is sealed as that.
    """
    try:
        return _shaped(json.loads(raw.decode(errors="replace")), form, key)
    except MISREAD:
        return {**place._asdict(), "event": "unreadable", "raw_sha256": hashlib.sha256(raw).hexdigest()}, None


def _shaped(entry: dict[str, Any], form: PromptForm, key: bytes) -> tuple[dict[str, Any], Content | None]:
    record = _numbered(entry)
    try:
        told = _told(entry)
    except MISREAD:
        # Another release's job or outcome: what the script itself says is there all the same.
        told = {name: value for name, value in entry.items() if name not in SHAPED} | {"unread": "job or outcome"}
    record |= {name: value for name, value in told.items() if name not in PERSONAL and value not in (None, "")}
    said = {name: told[name] for name in PERSONAL if told.get(name) not in (None, "")}
    if not said:
        return record, None
    said = shape_prompts(said, form, key)
    content = salted(record["seq"], record.get("tenant", ""), record.get("user_id", ""), said)
    return record | {"content": content.digest()}, content


def _numbered(entry: dict[str, Any]) -> dict[str, Any]:
    seq, at_ms = entry.pop("seq"), entry.pop("at_ms")
    if type(seq) is not int or type(at_ms) is not int or not 0 <= at_ms < LATEST_MS:
        raise ValueError("an entry's number and time")
    return {"seq": seq, "at_ms": at_ms}


def _told(entry: dict[str, Any]) -> dict[str, Any]:
    more = {name: json.loads(entry[name]) for name in SHAPED if entry.get(name)}
    plain = {name: value for name, value in entry.items() if name not in SHAPED}
    told: dict[str, Any] = plain | more.get("origin", {}) | _of_job(more.get("job")) | _of_outcome(more.get("outcome"))
    return told


def _of_job(job: dict[str, Any] | None) -> dict[str, Any]:
    if job is None:
        return {}
    spec, plan = job["spec"], job["plan"]
    parameters = {name: spec[name] for name in PARAMETERS} | {"preset": plan["preset"], "steps": plan["steps"]}
    image = spec.get("image") or {}
    return {
        "route": job["route"],
        "parameters": parameters,
        "body_sha256": job["body_hash"],
        "image_sha256": image.get("sha256"),
        "policy": (job.get("policy") or {}).get("verdicts") or None,
        "prompt": spec["prompt"],
    }


def _of_outcome(outcome: dict[str, Any] | None) -> dict[str, Any]:
    if outcome is None:
        return {}
    rendered, video = outcome["rendered"], outcome.get("video") or {}
    spent = measured_seconds(rendered["stage_seconds"])
    hashes = {"video": video.get("sha256"), "cover": video.get("cover_sha256")}
    return {
        "outcome": outcome["state"],
        "error_code": outcome.get("error_code"),
        "gpu_seconds": None if spent is None else round(spent, 3),
        "result_sha256": {name: digest for name, digest in hashes.items() if digest} or None,
        "weights_checksum": rendered["weights_checksum"],
        "moderation": rendered["stages"].get("moderation"),
        "reason": rendered["stages"].get("moderation_reason"),
        "rendered_prompt": rendered["prompt"],
    }
