"""Stage one: the decoder learns to draw sharp edges from mean colours."""

from pathlib import Path

import torch
from diffusers import AutoencoderKLCogVideoX

from tiny_model.draw import clips_of, trained_scenes
from tiny_model.loop import Schedule, my_share, seed_of, train
from tiny_model.scenes import CELL, cells, outlines, pixels, textures
from tiny_model.vae import build_vae, sharpening_parameters

STAGE, BATCH, CROP = 1, 16, 64
OUTLINES = 6.0  # most of a picture is plain, and soon learned
NOISE, NOISE_AT_OUTLINES = 0.03, 0.1


def train_vae(device: str, checkpoint: Path, steps: int) -> AutoencoderKLCogVideoX:
    vae = build_vae(STAGE).to(device)
    vae.encoder.requires_grad_(False)
    groups = [{"params": [weight], "lr": 8e-4 * share} for weight, share in sharpening_parameters(vae)]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)

    def loss(step: int) -> torch.Tensor:
        video, latent = (value[my_share(BATCH)].to(device) for value in draw_clips(step))
        away = vae.decode(latent).sample - video
        weight = 1 + OUTLINES * outlines(video.transpose(1, 2), CELL + 1).transpose(1, 2)
        return (weight * (away.abs() + 2 * away**2)).sum() / (weight.mean() * away.numel())

    train(vae, [optimizer], loss, Schedule(steps), checkpoint)
    return vae


def draw_clips(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips and what the encoder makes of them, with noise, most at outlines: so the transformer's latents are."""
    rng = torch.Generator().manual_seed(seed_of(STAGE, step))
    frames = 17 if step % 3 == 2 else 9
    scenes = trained_scenes(BATCH, rng)
    clips = clips_of(scenes, torch.zeros(BATCH, 2), 96, 96)
    start = CROP / 2 + (torch.rand(BATCH, 2, generator=rng) - 0.5) * 48 - clips.velocity * frames / 2
    clips = clips_of(scenes, start, 96, 96)
    video = pixels(clips, frames, CROP, CROP)
    if step % 2:
        some = BATCH // 4
        video[-some:] = textures(some, CROP, CROP, rng)[:, :, None]
    latent = cells(video).transpose(1, 2)
    strength = NOISE + NOISE_AT_OUTLINES * outlines(latent.transpose(1, 2), 3).transpose(1, 2)
    strength = strength * torch.rand(BATCH, 1, 1, 1, 1, generator=rng)
    return video, latent + strength * torch.randn(latent.shape, generator=rng)
