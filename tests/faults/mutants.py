"""Seeded bugs of the scripts: what each line of defence is worth is shown by taking it away."""

from pathlib import Path
from typing import NamedTuple

from video_jobs.store import _PRELUDE

SCRIPTS = Path(__file__).parents[2] / "video_jobs" / "scripts"


class Mutant(NamedTuple):
    script: str
    right: str
    wrong: str


MUTANTS: dict[str, Mutant] = {}


def script_sources(bug: str = "") -> dict[str, str]:
    """The scripts as the store registers them, one of them with this bug if one is named."""
    texts = {path.stem: path.read_text() for path in SCRIPTS.glob("*.lua")}
    if bug:
        mutant = MUTANTS[bug]
        if mutant.right not in texts[mutant.script]:
            raise RuntimeError(f"{bug}: {mutant.script}.lua has no {mutant.right!r}")
        texts[mutant.script] = texts[mutant.script].replace(mutant.right, mutant.wrong)
    prelude = "".join(texts.pop(name) for name in _PRELUDE)
    return {name: prelude + text for name, text in texts.items()}
