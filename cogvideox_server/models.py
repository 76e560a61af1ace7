"""`cogvideox-server models`: what can be rendered, what lies on disk, pulled and verified."""

import argparse
import sys
from pathlib import Path

from gpu_worker.weights.folders import MANIFEST, damage, read_manifest
from gpu_worker.weights.pull import model_folder
from video_jobs.catalogue import Catalogue, load_catalogue
from video_jobs.errors import ModelUnavailable
from video_jobs.fragment import read_settings
from video_jobs.settings import ModelSettings


def models(args: argparse.Namespace) -> int:
    return {"list": _list, "pull": _pull, "verify": _verify}[args.action](args)


def _list(args: argparse.Namespace) -> int:
    """The catalogue's checkpoints, then every pulled repository."""
    for name, checkpoint in _catalogue().checkpoints.items():
        where = "built in" if not checkpoint.repos else f"pull {name}: {', '.join(checkpoint.repos.values())}"
        print(f"{name:18} {where:62} {checkpoint.licence}")
    for folder in _once(_pulled(args.models)):
        known = read_manifest(folder)
        if known:
            size = sum(file.size for file in known.files) / 1e9
            print(f"{known.name:48} {size:7.2f} GB  revision {known.revision[:12]}  {folder}")
    return 0


def _pull(args: argparse.Namespace) -> int:
    try:
        folder = model_folder(args.name, args.models, _say, args.revision, _catalogue(), is_checked=True)
    except (ModelUnavailable, OSError, ValueError) as error:
        _say(f"cogvideox-server models: {error}")
        return 1
    print(folder)
    return 0


def _verify(args: argparse.Namespace) -> int:
    """Every byte against the checksums of the pull."""
    folders = [Path(args.name)] if args.name and Path(args.name).is_dir() else _pulled(args.models)
    wanted = _once([folder for folder in folders if not args.name or args.name in str(folder)])
    if not wanted:
        _say(
            f"cogvideox-server models: nothing{f' named {args.name}' if args.name else ''} was pulled to {args.models}"
        )
        return 1
    return max([_verify_one(folder) for folder in wanted])


def _verify_one(folder: Path) -> int:
    known = read_manifest(folder)
    if known is None:
        _say(f"{folder} holds no {MANIFEST}: it was not pulled, or not whole")
        return 1
    broken = list(damage(folder, known.files))
    for line in broken:
        print(f"{known.name}: {line}")
    print(f"{known.name}: {f'pull it again: {len(broken)} files are damaged' if broken else 'whole'}")
    return 1 if broken else 0


def _pulled(models: Path) -> list[Path]:
    return sorted(path.parent for path in models.glob(f"*/*/*/{MANIFEST}"))


def _once(folders: list[Path]) -> list[Path]:
    """A checkpoint's folder links to its repositories' own."""
    return list({folder.resolve(): folder for folder in reversed(folders)}.values())


def _catalogue() -> Catalogue:
    return load_catalogue(read_settings(ModelSettings).catalogue)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
