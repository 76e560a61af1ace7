"""Sheets that nobody's text can turn into a calculation, or into something that reads otherwise than it is."""

import csv
import io

import pytest

from video_jobs.sheet import cell, visible, write_csv

STARTS = ["=", "+", "-", "@", "|", "%", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠", " =", "\u3000=", "\ufeff ="]


@pytest.mark.parametrize("start", STARTS)
def test_text_that_a_spreadsheet_would_calculate_gets_an_apostrophe(start: str) -> None:
    assert cell(start + "1+1").startswith("'")


def test_numbers_and_plain_text_stay_as_they_are() -> None:
    assert [cell(value) for value in (-1.5, 7, None, "a - b", "一只猫", "a; b\nc")] == [
        *("-1.5", "7", "", "a - b", "一只猫", "a; b\nc")
    ]


@pytest.mark.parametrize("separator", [";", "; ", "\t", "\n", "\r\n", ";\u3000"])
def test_no_formula_begins_behind_what_another_country_parts_cells_by(separator: str) -> None:
    sheet = io.StringIO()
    write_csv(sheet, ["prompt", "user"], [{"prompt": f"a cat{separator}=HYPERLINK(1)", "user": "x"}])

    for delimiter in ",;\t":
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
            rows = csv.reader(io.StringIO(sheet.getvalue()), delimiter=delimiter, quoting=quoting)
            assert not [text for row in rows for text in row if text.lstrip(' \u3000"').startswith("=")]


def test_what_turns_text_around_is_shown_as_its_number() -> None:
    assert visible("user\u202egpj.\x9b31m\u2028") == "user\\u202egpj.\\u009b31m\\u2028"
    assert cell("\u202e=1") == "\\u202e=1"
    assert visible("👩\u200d🚀 tab\t") == "👩\u200d🚀 tab\t"
