"""docs/compatibility.md tells what every client can do, as found by letting it. `make compatibility` writes it anew."""

import os
import re
from pathlib import Path

import pytest

from tests.compatibility.matrix import measure, table

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"


@pytest.mark.timeout(600)
def test_every_client_can_do_what_the_page_says(redis_url: str, tmp_path: Path) -> None:
    matrix = measure(redis_url, tmp_path)
    page = PAGE.read_text()
    rewritten = re.sub(r"(\| client \|.*\n)(\|.*\n)+", lambda _: table(matrix) + "\n", page)
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(rewritten)
        page = rewritten

    bad = {name: said for name, said in matrix.items() if any(cell.startswith("no") for cell in said.values())}
    assert bad == {}
    assert page == rewritten
