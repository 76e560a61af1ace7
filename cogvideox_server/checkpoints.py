"""Which checkpoint of the catalogue a model's files belong to."""

import json
from pathlib import Path

from video_jobs.catalogue import load_catalogue


class NoSuchCheckpoint(Exception):
    """The model matches no checkpoint of the catalogue; name one with --checkpoint."""

    def __init__(self, model: str) -> None:
        super().__init__(f"{model}: {self.__doc__}")


def checkpoint_of(model: str) -> str:
    """By name for a hub id, by its transformer's shape for a folder."""
    if model in ("tiny", "tiny-random"):
        return model
    folder, known = Path(model), load_catalogue().checkpoints
    if model.removeprefix("modelscope:") in known:
        return model.removeprefix("modelscope:")
    if folder.is_dir():
        return _by_shape(model, folder)
    name = model.rpartition("/")[2].lower().replace("cogvideox1.5", "cogvideox-1.5").removesuffix("-i2v")
    if name not in ("cogvideox-1.5-5b", "cogvideox-5b", "cogvideox-2b"):
        raise NoSuchCheckpoint(model)
    return name


def _by_shape(model: str, folder: Path) -> str:
    for home in (folder, folder / "t2v", folder / "i2v"):
        config = home / "transformer" / "config.json"
        if config.is_file():
            said = json.loads(config.read_text())
            shape = (
                said["num_layers"],
                said["num_attention_heads"] * said["attention_head_dim"],
                said.get("patch_size_t") or 1,
            )
            for name, known in load_catalogue().checkpoints.items():
                if (known.layers, known.hidden, known.patch_t) == shape:
                    return name
    raise NoSuchCheckpoint(model)
