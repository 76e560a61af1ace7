"""Where pulled weights lie, and the checksums they are held to."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from gpu_worker.weights.hubs import HubFile, Repository

MANIFEST = "checksums.json"


def write_manifest(folder: Path, repository: Repository) -> None:
    """Written last: a folder with a manifest was pulled whole."""
    files = {file.path: {"size": file.size, "sha256": digest(folder / file.path)} for file in repository.files}
    said = {"name": repository.name, "revision": repository.revision, "licence": repository.licence, "files": files}
    half = folder / f".{MANIFEST}"
    half.write_text(json.dumps(said, indent=1))
    half.replace(folder / MANIFEST)


def read_manifest(folder: Path) -> Repository | None:
    if not (folder / MANIFEST).is_file():
        return None
    try:
        said = json.loads((folder / MANIFEST).read_text())
        files = tuple(HubFile(path, file["size"], file["sha256"]) for path, file in said["files"].items())
        return Repository(said["name"], said["revision"], said["licence"], files)
    except (ValueError, KeyError, TypeError):
        # Damaged itself: as good as none, a pull writes it again.
        return None


def damage(folder: Path, files: Iterable[HubFile]) -> Iterator[str]:
    """What is not as it should be, one line each. Reads every byte."""
    for file in files:
        if wrong := _wrong(folder / file.path, file):
            yield f"{file.path} {wrong}"


def forget_damaged(folder: Path, files: Iterable[HubFile]) -> None:
    """A hub's library leaves a file that is there alone: what is damaged must go before it can come again."""
    for file in files:
        path = folder / file.path
        if path.is_file() and _wrong(path, file):
            path.resolve().unlink()


def _wrong(path: Path, file: HubFile) -> str | None:
    if not path.is_file():
        return "is missing"
    if path.stat().st_size != file.size:
        return f"has {path.stat().st_size} bytes instead of {file.size}"
    return "has another checksum" if file.sha256 and digest(path) != file.sha256 else None


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
