"""Folders under .venvs/ that tests make once and keep, whoever of several test processes comes first."""

import fcntl
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    home = ROOT / ".venvs" / name
    home.parent.mkdir(exist_ok=True)
    with (home.parent / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / ".installed").exists():
            make(home)
            (home / ".installed").touch()
    return home
