"""CSV that a spreadsheet shows as text: no cell of it is a formula."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

# With the full-width forms, which some spreadsheets read alike.
FORMULA_STARTS = tuple("=+-@|%\t\r\n\0＝＋－＠")


def to_csv(rows: Iterable[Mapping[str, Any]], names: Iterable[str] = ()) -> str:
    """A header and a line for each row; the columns are the first row's unless they are named."""
    known = list(rows)
    columns = list(names) or list(known[0] if known else ())
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\r\n")
    lines.writerow(columns)
    lines.writerows([cell(row.get(name)) for name in columns] for row in known)
    return out.getvalue()


def cell(value: object) -> str:
    """The value as text, quoted with an apostrophe where a spreadsheet would calculate it."""
    text = "" if value is None else str(value)
    if not isinstance(value, str) or not text.lstrip(" \ufeff\u3000").startswith(FORMULA_STARTS):
        return text
    return "'" + text
