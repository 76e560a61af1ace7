"""Which checkpoint of the catalogue a model's files belong to."""

import json
from pathlib import Path

from video_jobs.catalogue import Catalogue, load_catalogue
from video_jobs.fragment import read_settings
from video_jobs.settings import ModelSettings


class NoSuchCheckpoint(Exception):
    """The model matches no checkpoint of the catalogue; name one with --checkpoint."""


def named_checkpoint(model: str, wanted: str | None) -> str:
    """The one that is wanted, or that the model's files belong to; NoSuchCheckpoint if the catalogue has it not."""
    path = read_settings(ModelSettings).catalogue
    try:
        catalogue = load_catalogue(path)
    except (OSError, ValueError) as exc:
        raise NoSuchCheckpoint(f"the catalogue {path}: {exc}") from exc
    name = wanted or checkpoint_of(model, catalogue)
    if name not in catalogue.checkpoints:
        known = ", ".join(sorted(catalogue.checkpoints))
        raise NoSuchCheckpoint(f"the catalogue has no checkpoint {name}; it has {known}")
    return name


def checkpoint_of(model: str, catalogue: Catalogue) -> str:
    """By name for a hub id, by its transformer's shape for a folder."""
    if model in ("tiny", "tiny-random"):
        return model
    folder, known = Path(model), catalogue.checkpoints
    if model.removeprefix("modelscope:") in known:
        return model.removeprefix("modelscope:")
    if folder.is_dir():
        return _by_shape(model, folder, catalogue)
    name = model.rpartition("/")[2].lower().replace("cogvideox1.5", "cogvideox-1.5").removesuffix("-i2v")
    if name not in ("cogvideox-1.5-5b", "cogvideox-5b", "cogvideox-2b"):
        raise NoSuchCheckpoint(f"{model}: {NoSuchCheckpoint.__doc__}")
    return name


def _by_shape(model: str, folder: Path, catalogue: Catalogue) -> str:
    for home in (folder, folder / "t2v", folder / "i2v"):
        config = home / "transformer" / "config.json"
        if config.is_file():
            said = json.loads(config.read_text())
            shape = (
                said["num_layers"],
                said["num_attention_heads"] * said["attention_head_dim"],
                said.get("patch_size_t") or 1,
            )
            for name, known in catalogue.checkpoints.items():
                if (known.layers, known.hidden, known.patch_t) == shape:
                    return name
    raise NoSuchCheckpoint(f"{model}: {NoSuchCheckpoint.__doc__}")
