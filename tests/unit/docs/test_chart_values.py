"""The chart's README tells every value as values.yaml has it. `make docs` writes the table anew."""

import json
import os
import re
from pathlib import Path
from typing import NamedTuple

import yaml

CHART = Path(__file__).parents[3] / "helm" / "cogvideox-server"
PAGE, VALUES, SCHEMA = CHART / "README.md", CHART / "values.yaml", CHART / "values.schema.json"
HEAD = "| value | default | what |\n|---|---|---|\n"


class Value(NamedTuple):
    path: tuple[str, ...]
    what: str
    """The `# --` comment above it; empty where there is none."""

    holds_more: bool


def values() -> list[Value]:
    """Every key of the file in its order. Items of lists are no values of their own."""
    found: list[Value] = []
    open_keys: list[tuple[int, str]] = []
    comment, list_indent = "", None
    for line in VALUES.read_text().splitlines():
        indent = len(line) - len(line.lstrip())
        if said := re.match(r" *# -- (.*)", line):
            comment = said[1]
        elif line.lstrip().startswith("- "):
            list_indent = indent
        elif (key := re.match(r" *(\w+):(.*)", line)) and (list_indent is None or indent < list_indent):
            list_indent = None
            open_keys = [(depth, name) for depth, name in open_keys if depth < indent]
            path = (*(name for _, name in open_keys), key[1])
            open_keys.append((indent, key[1]))
            found.append(Value(path, comment, not key[2].strip()))
            comment = ""
    return found


def told() -> list[Value]:
    """What the table has a row for: a value with a comment, of which nothing below has one."""
    commented = [value for value in values() if value.what]
    return [value for value in commented if not any(is_below(other, value) for other in commented)]


def is_below(value: Value, other: Value) -> bool:
    return value.path != other.path and value.path[: len(other.path)] == other.path


def default(path: tuple[str, ...]) -> object:
    held = yaml.safe_load(VALUES.read_text())
    for name in path:
        held = held[name]
    return held


def row(value: Value) -> str:
    held = default(value.path)
    shown = "" if held in ("", [], {}) else f"`{json.dumps(held)}`".replace("|", "\\|")
    return f"| `{'.'.join(value.path)}` | {shown} | {value.what.replace('|', chr(92) + '|')} |"


def rewritten(page: str) -> str:
    table = HEAD + "\n".join(row(value) for value in told()) + "\n"
    return re.sub(r"(## Values\n\n(?:[^|\n].*\n+)*)(?:\|.*\n)+", lambda found: found[1] + table, page)


def test_the_readme_tells_every_value_as_it_is() -> None:
    page = PAGE.read_text()
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(rewritten(page))

    assert page == rewritten(page)


def test_every_value_is_commented() -> None:
    every = values()
    explained = {value.path for value in every if value.what}
    silent = [
        value.path
        for value in every
        if not value.holds_more and not any(value.path[:depth] in explained for depth in range(1, len(value.path) + 1))
    ]

    assert len(every) > 150
    assert silent == []


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads(SCHEMA.read_text())
    known = schema_paths(schema, schema) - {("global",)}  # Helm's own
    explained, named = {value.path for value in told()}, {value.path for value in values()}

    assert explained - known == set()
    assert {path for path in known - named if not any(path[:depth] in explained for depth in range(len(path)))} == set()


def schema_paths(schema: dict, part: dict, above: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    part = resolve(schema, part)
    found = set()
    for name, below in part.get("properties", {}).items():
        path = (*above, name)
        found |= {path} | schema_paths(schema, below, path)
    return found


def resolve(schema: dict, part: dict) -> dict:
    return schema["definitions"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part


def test_a_pool_may_say_all_that_the_defaults_say() -> None:
    schema = json.loads(SCHEMA.read_text())
    one = resolve(schema, schema["properties"]["pools"]["items"])
    every = resolve(schema, schema["properties"]["poolDefaults"])

    assert one["properties"] == {"name": one["properties"]["name"], **every["properties"]}


def test_the_schema_is_closed() -> None:
    schema = json.loads(SCHEMA.read_text())
    open_ones = []

    def look(part: object, where: str) -> None:
        if isinstance(part, dict):
            if "properties" in part and part.get("additionalProperties") is not False:
                open_ones.append(where)
            for name, below in part.items():
                look(below, f"{where}/{name}")

    look(schema, "")
    assert open_ones == []
