"""CSV that a spreadsheet shows as text: no cell of it is a formula."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

# What spreadsheets take for the start of a formula, also in full width and after blanks they skip.
FORMULA_STARTS = tuple("=+-@|%\t\r\n\0＝＋－＠")
SKIPPED = " \u00a0\u3000\ufeff"


def write_csv(file: IO[str], columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    lines = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    lines.writerow(columns)
    lines.writerows([cell(row.get(column)) for column in columns] for row in rows)


def cell(value: object) -> str:
    """Numbers as they are; text that a spreadsheet would calculate gets an apostrophe in front."""
    text = "" if value is None else str(value)
    if not isinstance(value, str) or not text.lstrip(SKIPPED).startswith(FORMULA_STARTS):
        return text.replace("\0", "")
    return "'" + text.replace("\0", "")
