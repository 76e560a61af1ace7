"""The tables of model codes and of errors tell what the code has. `make docs` writes them anew."""

import os
import re
from pathlib import Path

import pytest

from server.zhipu.words import DETAILS, TABLE
from video_jobs.catalogue import load_catalogue

DOCS = Path(__file__).parents[3] / "docs"


def models() -> str:
    rows = []
    for name, code in load_catalogue().models.items():
        cells = (", ".join(map(str, each)) for each in (code.sizes, [code.default_size], code.fps, code.durations))
        rows.append(f"| `{name}` | {' | '.join(cells)} | {', '.join(f'`{field}`' for field in code.ignores)} |\n")
    return "".join(rows)


def errors() -> str:
    rows = []
    for code, row in TABLE.items():
        words = (re.sub(r"\{(\w+)\}", r"`\1`", text) for text in (row.zh, row.en))
        rows.append(f"| {code} | {row.status} | {' | '.join(words)} |\n")
    return "".join(rows)


@pytest.mark.parametrize(
    ("page", "head", "rows"),
    [
        ("models.md", r"\| code \| sizes .*\n\|[-|]+\n", models()),
        ("errors.md", r"\| code \| HTTP .*\n\|[-|]+\n", errors()),
    ],
)
def test_table_is_what_the_code_has(page: str, head: str, rows: str) -> None:
    text = (DOCS / page).read_text()
    rewritten = re.sub(rf"({head})(\|.*\n)*", lambda found: found[1] + rows, text)
    if os.environ.get("WRITE_DOCS"):
        (DOCS / page).write_text(rewritten)

    assert text == rewritten


def test_every_error_is_worded_whole() -> None:
    for code, row in TABLE.items():
        assert code.isdigit()
        assert 400 <= row.status < 600
        assert set(re.findall(r"\{\w+\}", row.zh)) == set(re.findall(r"\{\w+\}", row.en)), code
    assert all(zh.startswith("：") and en.startswith(": ") for zh, en in DETAILS.values())
