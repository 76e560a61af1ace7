"""`--model` as a folder: what is not on disk yet is pulled from its hub, only the files needed, and checked."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gpu_worker.weights.folders import damage, forget_damaged, read_manifest, write_manifest
from gpu_worker.weights.hubs import Hub, HubFile, Repository, hub_of
from video_jobs.catalogue import Catalogue, Checkpoint, load_catalogue
from video_jobs.errors import ModelUnavailable


def model_folder(
    name: str,
    models: Path,
    say: Callable[[str], None],
    revision: str | None = None,
    catalogue: Catalogue | None = None,
    is_checked: bool = False,
) -> Path:
    """A folder as it is; a checkpoint's name or a hub id as the folder it was, or is now, pulled to.

    `is_checked` reads what was pulled before and pulls what is damaged again.
    """
    if Path(name).is_dir():
        return Path(name)
    if is_checked:
        _forget_damaged(name, models, catalogue)
    hub, rest = hub_of(name)
    if rest.count("/") not in (0, 1) or rest.startswith((".", "/")):
        raise ModelUnavailable(f"{name} is neither a folder nor the name of a model")
    if "/" in rest:
        return _pulled(hub, rest, models, revision, say)
    checkpoint = (catalogue or load_catalogue()).checkpoints.get(rest)
    if checkpoint is None or not checkpoint.repos:
        raise ModelUnavailable(f"{name} is no checkpoint of the catalogue, no folder, and no hub id (ORG/NAME)")
    return _pair(hub, rest, checkpoint, models, revision, say)


def is_pulled(name: str, models: Path, catalogue: Catalogue | None = None) -> bool:
    """Whether `model_folder` would answer without asking a hub."""
    homes = _homes(name, models, catalogue)
    return bool(homes) and all(map(read_manifest, homes))


def _homes(name: str, models: Path, catalogue: Catalogue | None) -> list[Path]:
    hub, rest = hub_of(name)
    checkpoint = (catalogue or load_catalogue()).checkpoints.get(rest)
    names = [_owned(hub, repo) for repo in checkpoint.repos.values()] if checkpoint else [rest]
    return [home(hub, one, models) for one in names]


def _forget_damaged(name: str, models: Path, catalogue: Catalogue | None) -> None:
    for folder in _homes(name, models, catalogue):
        if known := read_manifest(folder):
            forget_damaged(folder, known.files)


def home(hub: Hub, name: str, models: Path) -> Path:
    return models / hub.label / name


def _owned(hub: Hub, repo: str) -> str:
    """The published ones have another owner on each hub; an operator's says its own."""
    return repo if "/" in repo else f"{hub.owner}/{repo}"


def _pair(
    hub: Hub, name: str, checkpoint: Checkpoint, models: Path, revision: str | None, say: Callable[[str], None]
) -> Path:
    """One folder with `t2v` and `i2v`; what both share is downloaded once."""
    folder, before = models / hub.label / name, None
    for mode, repo in checkpoint.repos.items():
        wanted = revision or checkpoint.revisions.get(mode)
        pulled = _pulled(hub, _owned(hub, repo), models, wanted, say, before)
        folder.mkdir(parents=True, exist_ok=True)
        link = folder / mode
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(pulled, folder))
        before = before or pulled
    return folder


def _pulled(
    hub: Hub,
    name: str,
    models: Path,
    revision: str | None,
    say: Callable[[str], None],
    twin: Path | None = None,
) -> Path:
    folder = home(hub, name, models)
    with _alone(folder):
        known = read_manifest(folder)
        if known is not None and revision in (None, known.revision) and not _is_short(folder, known):
            return folder
        found = hub.look_up(name, revision)
        if not any(file.path.endswith(".safetensors") for file in found.files):
            raise ModelUnavailable(f"{name} holds no safetensors in diffusers layout")
        shared = _share(found, folder, twin) if twin else frozenset()
        missing = [file for file in found.files if file.path not in shared]
        say(f"pulling {name} from {hub.label}: {len(missing)} files, {_gigabytes(missing)}; licence: {found.licence}")
        hub.download(found, [file.path for file in missing], folder)
        if broken := list(damage(folder, found.files)):
            forget_damaged(folder, found.files)
            raise ModelUnavailable(f"{name} was not pulled whole: {'; '.join(broken[:3])}; pull again")
        write_manifest(folder, found)
    return folder


def _share(found: Repository, folder: Path, twin: Path) -> frozenset[str]:
    """Large files that the twin has already, linked instead of downloaded again."""
    manifest = read_manifest(twin)
    held = {(file.path, file.sha256) for file in manifest.files} if manifest else set()
    shared = [file.path for file in found.files if file.sha256 and (file.path, file.sha256) in held]
    for path in shared:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(os.path.relpath(twin / path, target.parent))
    return frozenset(shared)


def _is_short(folder: Path, known: Repository) -> bool:
    """Cheap, for every start; `models verify` reads the bytes."""
    paths = [(folder / file.path, file.size) for file in known.files]
    return any(not path.is_file() or path.stat().st_size != size for path, size in paths)


def _gigabytes(files: list[HubFile]) -> str:
    return f"{sum(file.size for file in files) / 1e9:.2f} GB"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Several workers of one machine pull a model once."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
