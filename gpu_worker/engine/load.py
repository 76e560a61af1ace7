"""Weights from a diffusers-layout folder or a hub id. Only safetensors: a pickle would run what it holds."""

import hashlib
import json
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel
from diffusers.utils import logging as diffusers_logging
from tqdm import tqdm
from transformers import AutoTokenizer, T5EncoderModel
from transformers.utils import logging as transformers_logging

from gpu_worker.engine.built_in import BUILT_IN, built_in_folder
from gpu_worker.engine.memory import GB, Place, choose_preset, with_text
from gpu_worker.engine.model import Model, home_of
from gpu_worker.engine.precision import lower_text
from gpu_worker.engine.text import check_tokenizer
from gpu_worker.weights.hubs import PARTS
from gpu_worker.weights.pull import model_folder
from video_jobs.catalogue import Catalogue
from video_jobs.errors import ModelUnavailable

# A 1.5 transformer slices its positions from a grid of its own sample size: portrait would not fit a landscape one.
# The slice of a larger grid is the same numbers, so the native size stays bit-identical.
LARGE_GRID = 300

logger = logging.getLogger(__name__)


def pick_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def _no_bars_in_logs() -> None:
    """The libraries draw theirs whoever reads: between lines of JSON they are noise."""
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
        diffusers_logging.disable_progress_bar()


def load_model(
    name: str,
    models: Path,
    device: torch.device,
    memory: str = "auto",
    text: str = "auto",
    catalogue: Catalogue | None = None,
) -> Model:
    """`tiny`, `tiny-random`, a folder, or a hub id. A folder may hold one pipeline, or two as `t2v/` and `i2v/`.

    `text` is where the text encoder works, if not where the memory preset has it; a follower needs `none`.
    """
    _no_bars_in_logs()
    has_text = text != "none"
    preset = with_text(choose_preset(memory, free_bytes(device)), text if has_text else "auto")
    logger.info("memory preset", extra={"preset": preset.name, "free_gb": round((free_bytes(device) or 0) / GB, 1)})
    folders = find_pipelines(load_folder(name, models, catalogue))
    first = next(iter(folders.values()))
    # Reading it all takes as long as loading it: both at once.
    checksum = ThreadPoolExecutor(1).submit(weights_checksum, folders)
    tokenizer = AutoTokenizer.from_pretrained(first / "tokenizer")
    check_tokenizer(tokenizer)
    parts = _Parts(device, tqdm(total=2 + len(folders), desc=f"loading {name}", unit="part", disable=None, leave=False))
    vae = parts.read(AutoencoderKLCogVideoX, first / "vae", preset.vae)
    set_tiles(vae)
    encoder = parts.read(T5EncoderModel, first / "text_encoder", preset.text) if has_text else torch.nn.Identity()
    loaded = Model(
        tokenizer=tokenizer,
        text_encoder=lower_text(encoder) if text == "int8" else encoder,
        vae=vae,
        transformers={
            mode: _with_large_grid(parts.read(CogVideoXTransformer3DModel, folder / "transformer", preset.transformer))
            for mode, folder in folders.items()
        },
        scheduler_configs={
            mode: json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
            for mode, folder in folders.items()
        },
        image_scale=_image_scale(folders.get("i2v", first)),
        device=device,
        revision=first.parent.name if len(folders) > 1 else first.name,
        checksum=checksum.result(),
    )
    loaded.settle(preset)
    return loaded


class _Parts:
    """Reads part after part, each to where it lives; the bar shows only on a terminal."""

    def __init__(self, device: torch.device, bar: Any) -> None:
        self._device, self._bar = device, bar
        self._dtype = torch.float32 if device.type == "cpu" else torch.bfloat16

    def read(self, kind: Any, path: Path, place: Place) -> Any:
        self._bar.set_postfix_str(path.name)
        # Straight from the file to its home: main memory never holds the weights of a resident part.
        home = {"": str(home_of(place, self._device))}
        loaded = kind.from_pretrained(path, torch_dtype=self._dtype, use_safetensors=True, device_map=home).eval()
        self._bar.update()
        return loaded.requires_grad_(False)


def free_bytes(device: torch.device) -> float | None:
    """Of the device's own memory; None where it works in main memory."""
    return float(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else None


def weights_checksum(folders: dict[str, Path]) -> str:
    """One name for all weights: over the sorted safetensors and their contents."""
    total = hashlib.sha256()
    for mode, folder in sorted(folders.items()):
        # Part by part: a recursive glob would pass over folders that are links.
        for path in (path for part in sorted(PARTS) for path in sorted((folder / part).glob("*.safetensors"))):
            total.update(f"{mode}/{path.relative_to(folder)}\n".encode())
            with path.open("rb") as weights:
                total.update(hashlib.file_digest(weights, "sha256").digest())
    return total.hexdigest()


def load_folder(name: str, models: Path, catalogue: Catalogue | None) -> Path:
    """Where the model lies; pulled or laid out when it is not there yet."""
    if name in BUILT_IN:
        return built_in_folder(name, models)
    say = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    return model_folder(name, models, say, catalogue=catalogue)


def find_pipelines(folder: Path) -> dict[str, Path]:
    """Which pipelines lie here, by what they render."""
    found = {mode: folder / mode for mode in ("t2v", "i2v") if (folder / mode / "transformer").is_dir()}
    if not found and (folder / "transformer").is_dir():
        found = {"i2v" if _reads_images(folder / "transformer") else "t2v": folder}
    for path in found.values():
        _refuse_unsafe(path)
    if not found:
        raise ModelUnavailable(f"{folder} holds no pipeline in diffusers layout")
    return found


def _image_scale(pipeline: Path) -> float:
    """For 1.5 the inverse factor, as trained; the image pipeline's own config decides."""
    config = AutoencoderKLCogVideoX.load_config(pipeline / "vae")
    factor = float(config["scaling_factor"])
    return 1 / factor if config.get("invert_scale_latents", False) else factor


def set_tiles(vae: AutoencoderKLCogVideoX) -> None:
    """Tiles that overlap by whole latents: of others the clip comes out in another size, or not at all."""
    latent = 2 ** (len(vae.config.block_out_channels) - 1)
    high, wide = (
        latent * round(1 / share) for share in (vae.tile_overlap_factor_height, vae.tile_overlap_factor_width)
    )
    vae.enable_tiling(
        tile_sample_min_height=high * -(-vae.tile_sample_min_height // high),
        tile_sample_min_width=wide * -(-vae.tile_sample_min_width // wide),
    )
    vae.disable_tiling()


def _reads_images(transformer: Path) -> bool:
    config = json.loads((transformer / "config.json").read_text())
    return bool(config["in_channels"] == 2 * config["out_channels"])


def _refuse_unsafe(pipeline: Path) -> None:
    for part in ("transformer", "vae", "text_encoder"):
        if not any((pipeline / part).glob("*.safetensors")):
            raise ModelUnavailable(f"{pipeline / part} holds no safetensors; other formats are not read")


def _with_large_grid(transformer: CogVideoXTransformer3DModel) -> CogVideoXTransformer3DModel:
    if transformer.config.patch_size_t is not None:
        transformer.register_to_config(sample_height=LARGE_GRID, sample_width=LARGE_GRID)
    return transformer
