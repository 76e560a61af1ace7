"""Limits as answers: which business error a hit is, and the headers that tell when to come again."""

import math
import time
from datetime import UTC, datetime

from server.refusal import Refusal
from video_jobs.limits import LimitHit, Rate

# 1305: the pool; 1308: a quota with its reset; 1113: the budget is used up; all others, the caller's own pace: 1302.
CODES = {
    "prepaid_gpu_seconds": "1113",
    "gpu_seconds_per_day": "1308",
    "gpu_seconds_per_month": "1308",
    "wait": "1305",
}
WINDOW_SECONDS = {
    "requests_per_minute": 60,
    "reads_per_minute": 60,
    "gpu_seconds_per_day": 86_400,
    "gpu_seconds_per_month": 31 * 86_400,
}


def refusal_of(hit: LimitHit) -> Refusal:
    """What the caller is told; whether a retry may help follows from the wait."""
    headers = {"RateLimit-Policy": _policy(hit.name, hit.number)}
    if hit.wait_s is not None:
        headers["RateLimit"] = f'"{_dashed(hit.name)}";r=0;t={math.ceil(hit.wait_s)}'
    reset = datetime.fromtimestamp(time.time() + (hit.wait_s or 0), UTC)
    return Refusal(
        code := CODES.get(hit.name, "1302"),
        detail=f"{hit.whose}_{hit.name}" if code == "1302" else "",
        wait_s=hit.wait_s,
        headers=headers,
        number=f"{hit.number:g}",
        unit=f"{hit.whose}_{hit.name}" if code == "1308" else "",
        next_flush_time=f"{reset:%Y-%m-%d %H:%M:%S} UTC",
    )


def rate_headers(rate: Rate | None) -> dict[str, str]:
    """For an accepted request: what is left of its rate."""
    if rate is None:
        return {}
    name = "requests_per_minute"
    left = f'"{_dashed(name)}";r={rate.left};t={math.ceil(rate.full_s)}'
    return {"RateLimit-Policy": _policy(name, rate.number), "RateLimit": left}


def _policy(name: str, number: float) -> str:
    window = WINDOW_SECONDS.get(name)
    return f'"{_dashed(name)}";q={math.ceil(number)}' + (f";w={window}" if window else "")


def _dashed(name: str) -> str:
    return name.replace("_", "-")
