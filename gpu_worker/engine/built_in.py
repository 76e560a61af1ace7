"""The built-in models: `tiny`, trained and shipped here, and `tiny-random` for tests of all but the picture."""

import hashlib
import json
from pathlib import Path

from gpu_worker.engine.once import made_once
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

    They are copies, so that an upgrade of the package never changes weights under a running engine.
    """
    sums = (shipped / CHECKSUMS).read_bytes()

    def lay_out(folder: Path) -> None:
        for file, checksum in json.loads(sums).items():
            for place in _places(Path(file)):
                _copy(shipped / file, checksum, folder / place)

    return made_once(models / f"tiny-2-{hashlib.sha256(sums).hexdigest()[:8]}", lay_out)


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
