"""Records as a sheet: what most of them have in columns of its own, the rest in one."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO, Any

from video_jobs.sheet import cell, csv_writer

COLUMNS = (
    *("chain_id", "seq", "time", "event", "detail", "tenant", "key_id", "user_id", "request_id", "task_id", "model"),
    *("client", "user_agent", "parameters", "prompt", "rendered_prompt", "image_sha256", "outcome", "error_code"),
    *("gpu_seconds", "result_sha256", "more"),
)


class AuditSheet:
    """Written row by row: a year of records need not fit in memory. No cell of it is a formula."""

    def __init__(self, file: IO[str]) -> None:
        self._lines = csv_writer(file)
        self._lines.writerow(COLUMNS)

    def add(self, record: Mapping[str, Any]) -> None:
        more = {name: value for name, value in record.items() if name not in COLUMNS and name != "at_ms"}
        row = dict(record) | {"time": time_of(record), "more": more or None}
        self._lines.writerow([cell(_text(row.get(name))) for name in COLUMNS])


def time_of(record: Mapping[str, Any]) -> str:
    return datetime.fromtimestamp(record["at_ms"] / 1000, UTC).isoformat(timespec="milliseconds")


def _text(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
