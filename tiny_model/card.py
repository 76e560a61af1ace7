"""The scores in the model card: a table between two marks, written from `scores.json`."""

import json
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- scores -->", "<!-- end of scores -->"
_COLUMNS = ("clips", "background", "colour", "motion", "shape", "all", "first frame dB, mean", "first frame dB, least")
_ASKED = {
    "t2v en": "words, English",
    "t2v zh": "words, Chinese",
    "i2v en": "picture, English",
    "i2v zh": "picture, Chinese",
    "vague en": "half said, English",
    "vague zh": "half said, Chinese",
}


def write_card(card: Path, scores: Path) -> None:
    text = card.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    card.write_text(f"{before}{BEGIN}\n{table(json.loads(scores.read_text()))}\n{END}{after}")


def table(scores: dict[str, Any]) -> str:
    pace = scores["pace"]
    lines = [
        f"DDIM, {scores['steps']} steps, guidance {scores['guidance']}: the preset `speed`. 81 frames at 96x96 took "
        f"{pace['s']} s ({pace['device']}, {pace['threads']} threads), the process {pace['peak host memory, GB']} GB.",
        "",
        "| asked with | which | " + " | ".join(_COLUMNS) + " |",
        "|---|---|" + "---|" * len(_COLUMNS),
    ]
    for key, asked in _ASKED.items():
        for group, row in scores.get(key, {}).items():
            cells = (_cell(name, row.get(name)) for name in _COLUMNS)
            lines.append(f"| {asked} | {group} | " + " | ".join(cells) + " |")
    lines += ["", "| photograph | first frame dB | last frame dB |", "|---|---|---|"]
    lines += [
        f"| {name} | {row['first frame dB']} | {row['last frame dB']} |"
        for name, row in scores.get("photographs", {}).items()
    ]
    return "\n".join(lines)


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value}" if name == "clips" or "dB" in name else f"{value:.0%}"
