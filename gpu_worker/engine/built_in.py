"""The built-in models: `tiny`, trained and shipped here, and `tiny-random` for tests of all but the picture."""

import hashlib
import json
import os
import secrets
import shutil
from pathlib import Path

from gpu_worker.engine.tiny import tiny_model_folder
from video_jobs.errors import ModelUnavailable

SHIPPED = Path(__file__).parents[1] / "tiny"
CHECKSUMS, SHARED = "checksums.json", "shared"
BUILT_IN = ("tiny", "tiny-random")


def built_in_folder(name: str, models: Path) -> Path:
    """Where a built-in model lies in diffusers layout; laid out on first use."""
    return unpack(SHIPPED, models) if name == "tiny" else tiny_model_folder(models)


def unpack(shipped: Path, models: Path) -> Path:
    """Lay the shipped parts out as two whole pipelines; a file that is not what it was is refused.

    They are copies, so that an upgrade of the package never changes weights under a running engine. Whoever unpacks
    at the same time writes the same bytes.
    """
    sums = (shipped / CHECKSUMS).read_bytes()
    folder = models / f"tiny-2-{hashlib.sha256(sums).hexdigest()[:8]}"
    if folder.is_dir():
        return folder
    half = models / f".{folder.name}-{secrets.token_hex(8)}"
    try:
        for file, checksum in json.loads(sums).items():
            for place in _places(Path(file)):
                _copy(shipped / file, checksum, half / place)
        os.rename(half, folder)  # noqa: PTH104  # Path.rename would hide that losing the race is fine
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return folder


def _places(file: Path) -> list[Path]:
    """What both pipelines share is shipped once. Adapters are not part of a pipeline."""
    if file.parts[0] == SHARED:
        return [mode / file.relative_to(SHARED) for mode in (Path("t2v"), Path("i2v"))]
    return [file] if file.parts[0] in ("t2v", "i2v") else []


def _copy(source: Path, checksum: str, target: Path) -> None:
    content = source.read_bytes()
    if hashlib.sha256(content).hexdigest() != checksum:
        raise ModelUnavailable(f"{source} is not what was shipped; install the package again")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
