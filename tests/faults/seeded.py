"""Seeded bugs of the processes: planted by name, so that the harness can show that it would notice."""

import os
from collections.abc import Callable

SEEDED = "FAULTS_SEEDED"
BUGS: dict[str, Callable[[], None]] = {}


def plant() -> None:
    """Plant the bug that this process's environment names, if it names one."""
    if name := os.environ.get(SEEDED):
        BUGS[name]()
