"""Rows as CSV that a spreadsheet opens without running anything in it."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import IO, Any

# What spreadsheets take for the start of a formula, also in full width and after blanks they skip.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠", "|", "%")
COLUMNS = (
    *("chain_id", "seq", "time", "event", "detail", "tenant", "key_id", "user_id", "request_id", "task_id", "model"),
    *("client", "user_agent", "parameters", "prompt", "rendered_prompt", "image_sha256", "outcome", "error_code"),
    *("gpu_seconds", "result_sha256", "more"),
)


def write_csv(file: IO[str], columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> int:
    """Every field is quoted; returns how many rows there were."""
    writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(columns)
    count = 0
    for row in rows:
        writer.writerow([cell(row.get(column)) for column in columns])
        count += 1
    return count


def cell(value: Any) -> str:
    """Numbers as they are; text that a spreadsheet would run gets a quote in front."""
    if value is None:
        return ""
    if isinstance(value, int | float):
        return str(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text.replace("\0", "")
    return f"'{text}" if text.lstrip(" \u00a0\u3000").startswith(FORMULA_STARTS) else text


def audit_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record in the columns of the sheet; what has none of its own stands in `more`."""
    known = {name: record[name] for name in COLUMNS if name in record}
    more = {name: value for name, value in record.items() if name not in COLUMNS and name != "at_ms"}
    return known | {"time": _time(record["at_ms"]), "more": more or None}


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
