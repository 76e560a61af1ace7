"""The built-in model: the real structure of CogVideoX 1.5, small, with seeded random weights, made once."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXTransformer3DModel
from transformers import T5Config, T5EncoderModel

from gpu_worker.engine.once import made_once
from gpu_worker.engine.tiny_words import make_tokenizer

TINY = "tiny-1"
TEXT_TOKENS, TEXT_WIDTH = 64, 32
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": True,
    "snr_shift_scale": 1.0,
    "timestep_spacing": "trailing",
    "rescale_betas_zero_snr": True,
    "prediction_type": "v_prediction",
}


def tiny_model_folder(models: Path) -> Path:
    """Where the tiny model lies; made on first use."""
    return made_once(models / TINY, make_tiny_model)


def make_tiny_model(folder: Path) -> None:
    """Both pipelines in diffusers layout. Text encoder and VAE are made once and linked into the second."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20_24)
        vae, transformers = _vae(), {mode: _transformer(mode) for mode in ("t2v", "i2v")}
        tokenizer = make_tokenizer()
        text_encoder = _text_encoder(len(tokenizer))
    for mode, transformer in transformers.items():
        parts: dict[str, Any] = {
            "transformer": transformer,
            "vae": vae,
            "text_encoder": text_encoder,
            "tokenizer": tokenizer,
            "scheduler": CogVideoXDDIMScheduler(**SCHEDULER),
        }
        for name, part in parts.items():
            part.save_pretrained(folder / mode / name)
        _write_index(folder / mode, mode)


def _transformer(mode: str) -> CogVideoXTransformer3DModel:
    latent, image = 16, mode == "i2v"
    return CogVideoXTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=16,
        in_channels=2 * latent if image else latent,
        out_channels=latent,
        time_embed_dim=32,
        ofs_embed_dim=32 if image else None,
        text_embed_dim=TEXT_WIDTH,
        num_layers=2,
        sample_width=16,
        sample_height=16,
        sample_frames=81,
        patch_size=2,
        patch_size_t=2,
        patch_bias=False,
        max_text_seq_length=TEXT_TOKENS,
        use_rotary_positional_embeddings=True,
    )


def _vae() -> AutoencoderKLCogVideoX:
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=16,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
        sample_height=64,
        sample_width=128,
        scaling_factor=0.7,
        invert_scale_latents=True,
    )


def _text_encoder(vocabulary: int) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=vocabulary,
            d_model=TEXT_WIDTH,
            d_kv=16,
            d_ff=64,
            num_layers=2,
            num_heads=2,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
        )
    )


def _write_index(pipeline: Path, mode: str) -> None:
    index = {
        "_class_name": "CogVideoXPipeline" if mode == "t2v" else "CogVideoXImageToVideoPipeline",
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "T5Tokenizer"],
        "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLCogVideoX"],
        "scheduler": ["diffusers", "CogVideoXDDIMScheduler"],
    }
    (pipeline / "model_index.json").write_text(json.dumps(index, indent=2))
