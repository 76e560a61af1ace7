"""CSV that a spreadsheet shows as text: no cell of it is a formula."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

# What spreadsheets take for the start of a formula, also in full width and after blanks they skip.
FORMULA_STARTS = r"[=+\-@|%\t\r\n\0＝＋－＠]"
SKIPPED = r"[ \u00a0\u3000\ufeff]*"
_FORMULA = re.compile(SKIPPED + FORMULA_STARTS)
# Where another country's spreadsheet, or a careless import, would begin a cell of its own, whatever the quotes say.
_INNER = re.compile(rf"([;\t\r\n]{SKIPPED})(?=[=+\-@|%＝＋－＠])")
# Letters that change how a terminal or a sheet shows what stands around them.
_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def write_csv(file: IO[str], columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    lines = csv_writer(file)
    lines.writerow(columns)
    lines.writerows([cell(row.get(column)) for column in columns] for row in rows)


def csv_writer(file: IO[str]) -> Any:
    return csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\r\n")


def cell(value: object) -> str:
    """Numbers as they are; text that a spreadsheet would calculate gets an apostrophe in front."""
    if not isinstance(value, str):
        return "" if value is None else str(value)
    text = _INNER.sub(r"\1'", value)
    return ("'" if _FORMULA.match(text) else "") + visible(text)


def visible(text: str) -> str:
    """Controls and marks of direction as JSON escapes: a name shall not rearrange what an auditor reads."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
