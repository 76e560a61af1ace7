"""A folder that is made once, whole or not at all, whoever else makes it at the same time."""

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder; `make` fills it on first use. All who race for it make the same bytes."""
    if folder.is_dir():
        return folder
    half = folder.with_name(f".{folder.name}-{secrets.token_hex(8)}")
    half.mkdir(parents=True)
    try:
        make(half)
        os.rename(half, folder)  # noqa: PTH104  # Path.rename would hide that losing the race is fine
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return folder
