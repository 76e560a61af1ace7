"""From checkpoints to what is shipped: every part once, in float16 safetensors, with a list of checksums."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXTransformer3DModel

from tiny_model.loop import load_average
from tiny_model.scheduler import SCHEDULER
from tiny_model.tokenizer import build_tokenizer
from tiny_model.train_text import build_text_encoder
from tiny_model.train_transformer import ordered_weights
from tiny_model.transformer import CHANNELS, build_transformer
from tiny_model.vae import build_vae, sharpening_parameters

CHECKSUMS, SHARED = "checksums.json", "shared"
_PIPELINES = {"t2v": "CogVideoXPipeline", "i2v": "CogVideoXImageToVideoPipeline"}


@torch.no_grad()
def assemble(build: Path, folder: Path) -> None:
    """Write the parts of both pipelines from the stages' checkpoints."""
    tokenizer = build_tokenizer()
    text_encoder = build_text_encoder(tokenizer)
    load_average(text_encoder, list(text_encoder.parameters()), build / "text.pt")
    image = load_transformer(build / "transformer.pt")
    parts: dict[str, Any] = {
        "t2v/transformer": without_image(image),
        "i2v/transformer": image,
        f"{SHARED}/vae": load_vae(build / "vae.pt"),
        f"{SHARED}/text_encoder": text_encoder,
    }
    for name, part in parts.items():
        part.half().save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / SHARED / "tokenizer")
    CogVideoXDDIMScheduler(**SCHEDULER).save_pretrained(folder / SHARED / "scheduler")
    for mode, pipeline in _PIPELINES.items():
        _write_index(folder / mode, pipeline, tokenizer)
    write_checksums(folder)


def load_transformer(checkpoint: Path) -> CogVideoXTransformer3DModel:
    """The trained transformer: its running average."""
    model = build_transformer(images=True)
    load_average(model, ordered_weights(model), checkpoint)
    return model


def load_vae(checkpoint: Path) -> AutoencoderKLCogVideoX:
    vae = build_vae(0)
    load_average(vae, [weight for weight, _ in sharpening_parameters(vae)], checkpoint)
    return vae


@torch.no_grad()
def without_image(image: CogVideoXTransformer3DModel) -> CogVideoXTransformer3DModel:
    """The same transformer for words alone: no image channels, and the constant offset taken into the time."""
    model = build_transformer(images=False)
    weights = {name: value.clone() for name, value in image.state_dict().items() if not name.startswith("ofs_")}
    # A patch is flattened as (channel, time, y, x); the noisy channels come first.
    weights["patch_embed.proj.weight"] = weights["patch_embed.proj.weight"][:, : CHANNELS * 8].clone()
    weights["time_embedding.linear_2.bias"] += image.ofs_embedding(image.ofs_proj(torch.zeros(1)))[0]
    model.load_state_dict(weights)
    return model


def write_checksums(folder: Path) -> None:
    """Of every file that is loaded; the model card is not."""
    sums = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".safetensors", ".json") and path.name != CHECKSUMS
    }
    (folder / CHECKSUMS).write_text(json.dumps(sums, indent=2) + "\n")


def _write_index(pipeline: Path, name: str, tokenizer: Any) -> None:
    index = {
        "_class_name": name,
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", type(tokenizer).__name__],
        "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLCogVideoX"],
        "scheduler": ["diffusers", "CogVideoXDDIMScheduler"],
    }
    (pipeline / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
