"""Stage one: the decoder learns to draw sharp edges from mean colours."""

from pathlib import Path

import torch
from diffusers import AutoencoderKLCogVideoX

from tiny_model.draw import clips_of, draw_scenes
from tiny_model.loop import Schedule, seed_of, train
from tiny_model.scenes import cells, pixels, textures
from tiny_model.vae import build_vae, sharpening_parameters

STAGE, BATCH, CROP = 1, 4, 64


def train_vae(checkpoint: Path, steps: int) -> AutoencoderKLCogVideoX:
    vae = build_vae(STAGE)
    vae.encoder.requires_grad_(False)
    groups = [{"params": [weight], "lr": 6e-4 * share} for weight, share in sharpening_parameters(vae)]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)

    def loss(step: int) -> torch.Tensor:
        video, latent = _batch(step)
        made = vae.decode(latent).sample
        return (made - video).abs().mean() + 2 * ((made - video) ** 2).mean()

    train(vae, [optimizer], loss, Schedule(steps), checkpoint)
    return vae


def _batch(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips and what the encoder makes of them, with a little noise: the transformer's latents are not perfect."""
    rng = torch.Generator().manual_seed(seed_of(STAGE, step))
    frames = 17 if step % 3 == 2 else 9
    scenes = draw_scenes(BATCH, rng)
    clips = clips_of(scenes, torch.zeros(BATCH, 2), 96, 96)
    start = CROP / 2 + (torch.rand(BATCH, 2, generator=rng) - 0.5) * 48 - clips.velocity * frames / 2
    clips = clips_of(scenes, start, 96, 96)
    video = pixels(clips, frames, CROP, CROP)
    if step % 2:
        video[-1] = textures(1, CROP, CROP, rng)[0][:, None]
    latent = cells(video).transpose(1, 2)
    strength = 0.06 * torch.rand(BATCH, 1, 1, 1, 1, generator=rng)
    return video, latent + strength * torch.randn(latent.shape, generator=rng)
