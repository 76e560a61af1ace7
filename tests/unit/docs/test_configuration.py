"""docs/configuration.md tells every setting as the code has it. `make docs` writes the tables anew."""

import os
import re
from pathlib import Path

from pydantic.fields import FieldInfo

from gpu_worker.settings import WorkerSettings
from server.settings import GatewaySettings

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"


def row(name: str, field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True, validated_data={})
    value = getattr(default, "get_secret_value", lambda: default)()
    value = ",".join(map(str, value)) if isinstance(value, tuple) else value
    shown = "none" if value in (None, "", (), frozenset()) else f"`{value}`"
    choices = getattr(field.annotation, "__args__", ())
    allowed = " or ".join(f"`{choice}`" for choice in choices if isinstance(choice, str) and choice)
    what = " ".join((field.description or "").split()) + (f" One of {allowed}." if allowed else "")
    return f"| `COGVIDEOX_{name.upper()}` | {shown} | {what} |"


def tables() -> dict[str, str]:
    gateway, worker = GatewaySettings.model_fields, WorkerSettings.model_fields
    parts = {
        "Both": {name: field for name, field in gateway.items() if name in worker},
        "Gateway": {name: field for name, field in gateway.items() if name not in worker},
        "Worker": {name: field for name, field in worker.items() if name not in gateway},
    }
    head = "| variable | default | what |\n|---|---|---|\n"
    return {title: head + "\n".join(row(*item) for item in fields.items()) for title, fields in parts.items()}


def rewritten(page: str) -> str:
    for title, table in tables().items():
        page = re.sub(rf"(## {title}\n\n)(?:\|.*\n)+", lambda m, table=table: m[1] + table + "\n", page)
    return page


def test_the_page_tells_every_setting_as_it_is() -> None:
    page = PAGE.read_text()
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(rewritten(page))

    assert page == rewritten(page)


def test_every_setting_says_what_it_does() -> None:
    kinds = (GatewaySettings, WorkerSettings)
    silent = [name for kind in kinds for name, field in kind.model_fields.items() if not field.description]

    assert silent == []
