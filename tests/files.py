"""What lies in a folder while others delete there: before Python 3.13 a glob fails on a folder that goes away."""

import os
from pathlib import Path


def below(folder: Path) -> list[Path]:
    return [Path(parent, name) for parent, folders, files in os.walk(folder) for name in (*folders, *files)]
