"""Stage three: one transformer learns to paint from words alone and from words with a first frame.

Afterwards it is written as two: without its image channels it is the text-to-video transformer.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXTransformer3DModel
from torch import nn

from tiny_model.codes import ATTRIBUTES, TOKENS, codebook, encode
from tiny_model.draw import PALETTE, Scenes, anywhere, clips_of, inside, is_held_out, trained_scenes
from tiny_model.loop import Schedule, my_share, seed_of, train
from tiny_model.muon import Muon
from tiny_model.scenes import CELL, latents, outlines, textures
from tiny_model.scheduler import SCHEDULER
from tiny_model.transformer import OFS, drawn_offsets, positions
from tiny_model.written import learned_parameters, start_transformer

STAGE = 3
RATE = 1.2e-3
PICTURES_UNTIL, SHORT_UNTIL = 250, 600
SIZES = ((96, 96), (96, 96), (96, 96), (80, 128), (128, 80), (80, 112), (112, 80))
BATCHES = {2: 64, 6: 32, 10: 24, 22: 14, 42: 8}
PICTURED = 0.65  # of the clips, those with a first frame
OUTLINES = 8.0  # most of a picture is plain, and soon learned
EMPTY, TELLS_LESS, CALM, PHOTOGRAPH = 0.03, 0.15, 0.03, 0.12
NOTHING = torch.tensor([len(values) for values in ATTRIBUTES.values()])
_CALM = torch.tensor([110, 150, 190]) / 127.5 - 1


@dataclass(frozen=True)
class Batch:
    video: torch.Tensor
    image: torch.Tensor
    pictured: torch.Tensor
    noise: torch.Tensor
    text: torch.Tensor
    time: torch.Tensor


def train_transformer(device: str, checkpoint: Path, steps: int, fall_from: int) -> CogVideoXTransformer3DModel:
    model = start_transformer(STAGE).to(device)
    scheduler = CogVideoXDDIMScheduler(**SCHEDULER)
    book = codebook()

    def loss(step: int) -> torch.Tensor:
        return prediction_loss(model, scheduler, draw_batch(step, book))

    train(model, optimizers_of(model), loss, Schedule(steps, fall_from, average=0.995), checkpoint)
    return model


def ordered_weights(model: nn.Module) -> list[nn.Parameter]:
    """As the checkpoints hold them."""
    return [weight for optimizer in optimizers_of(model) for weight in optimizer.param_groups[0]["params"]]


def optimizers_of(model: nn.Module, rate: float = RATE) -> list[torch.optim.Optimizer]:
    """Muon for the learned blocks' matrices, AdamW for what else is learned."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    model.requires_grad_(False)
    for name, weight in learned_parameters(model):
        weight.requires_grad_(True)
        inner = weight.ndim == 2 and "transformer_blocks" in name and ".linear." not in name
        (matrices if inner else others).append(weight)
    return [Muon(matrices, lr=rate), torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)]


def prediction_loss(
    model: CogVideoXTransformer3DModel, scheduler: CogVideoXDDIMScheduler, batch: Batch
) -> torch.Tensor:
    """The mean squared error of the clip that is predicted; outlines count more than plain grounds.

    The velocity's error is the clip's, divided by the noise: a hardly noisy clip would count three hundredfold.
    """
    batch = Batch(*(value[my_share(len(batch.time))].to(model.device) for value in vars(batch).values()))
    _, frames, _, height, width = batch.video.shape
    noisy = scheduler.add_noise(batch.video, batch.noise, batch.time)
    wanted = scheduler.get_velocity(batch.video, batch.noise, batch.time)
    made = model(
        hidden_states=torch.cat([noisy, batch.image], 2),
        encoder_hidden_states=batch.text,
        timestep=batch.time,
        ofs=OFS * batch.pictured,
        image_rotary_emb=positions(frames, height, width),
        return_dict=False,
    )[0]
    weight = 1 + OUTLINES * outlines(batch.video, 3)
    noise = 1 - scheduler.alphas_cumprod[batch.time][:, None, None, None, None]
    return (weight * noise * (made - wanted) ** 2).sum() / (weight.mean() * wanted.numel())


def draw_batch(step: int, book: torch.Tensor, palette: torch.Tensor = PALETTE) -> Batch:
    rng = torch.Generator().manual_seed(seed_of(STAGE, step))
    chance = random.Random(seed_of(STAGE, step))  # noqa: S311  # a seed, not a secret
    frames = _length(step, chance)
    width, height = chance.choice(SIZES)
    count = BATCHES[frames]
    scenes = trained_scenes(count, rng)
    noise = torch.randn(count, frames, 3, height // CELL, width // CELL, generator=rng)
    from_image = torch.rand(count, generator=rng) < (0.2 if frames == 2 else PICTURED)
    start = torch.where(
        from_image[:, None],
        anywhere(scenes, height, width, rng),
        inside(scenes, height, width, drawn_offsets(noise)),
    )
    meaning, told = _meaning(scenes, from_image, rng)
    photograph = from_image & (torch.rand(count, generator=rng) < PHOTOGRAPH)
    # Of a photograph a caption mostly tells what nobody here knows.
    meaning[photograph & (torch.rand(count, generator=rng) < 0.75)] = NOTHING
    video = latents(clips_of(told, start, height, width, palette), frames - 1, height, width)
    video = _exceptions(video, meaning, from_image, photograph, palette, rng)
    video = torch.cat([video[:, :1], video], 1)
    image = torch.zeros_like(video)
    # As the stock pipeline has it: the padding alone, which it drops in the end.
    image[:, :1] = video[:, :1] * from_image[:, None, None, None, None]
    return Batch(video, image, from_image.float(), noise, _texts(meaning, book, rng), _times(count, rng))


def _length(step: int, chance: random.Random) -> int:
    """Latent frames, padding included: pictures first, then mostly 81 frames, some 161."""
    if step < PICTURES_UNTIL:
        return chance.choices((2, 6), (0.75, 0.25))[0]
    if step < SHORT_UNTIL:
        return chance.choices((2, 6, 10, 22), (0.2, 0.4, 0.1, 0.3))[0]
    return chance.choices((2, 6, 10, 22, 42), (0.1, 0.15, 0.13, 0.58, 0.04))[0]


def _meaning(scenes: Scenes, from_image: torch.Tensor, rng: torch.Generator) -> tuple[torch.Tensor, Scenes]:
    """What the caption says, and the scene that follows from it: what is not said has a usual value."""
    full = torch.stack(list(vars(scenes).values()), 1)
    count = len(full)
    less = torch.rand(count, generator=rng) < torch.where(from_image, 3 * TELLS_LESS, TELLS_LESS)
    silent = less[:, None] & (torch.rand(count, full.shape[1], generator=rng) < 0.4)
    # Half of the captions beside a picture that tell less tell the motion alone.
    bare = less & from_image & (torch.rand(count, generator=rng) < 0.5)
    silent[bare] = torch.tensor([True, True, True, False, True])
    meaning = torch.where(silent, NOTHING, full)
    told = usual(meaning)
    shown = torch.where(from_image[:, None], full, told)
    shown[:, 3] = told[:, 3]
    # Usual values must not make of it what is held out.
    held_out = is_held_out(Scenes(*shown.unbind(1)))
    meaning[held_out], shown[held_out] = full[held_out], full[held_out]
    empty = torch.rand(count, generator=rng) < EMPTY
    shown[empty] = full[empty]
    meaning[empty] = -1
    calm = ~empty & ~from_image & (torch.rand(count, generator=rng) < CALM)
    meaning[calm] = torch.where(torch.rand(int(calm.sum()), 5, generator=rng) < 0.7, NOTHING, meaning[calm])
    meaning[calm, 0], meaning[calm, 2] = NOTHING[0], NOTHING[2]
    return meaning, Scenes(*shown.unbind(1))


def usual(meaning: torch.Tensor) -> torch.Tensor:
    """The scene for a caption that leaves something out: a big red (or white) circle, still, on white (or black)."""
    red, white, black, yellow = 0, 6, 7, 2
    colour, ground, shape, motion, size = meaning.clone().unbind(1)
    unsaid = colour == NOTHING[0]
    colour[unsaid] = torch.where(ground[unsaid] == red, white, red)
    unsaid = ground == NOTHING[1]
    ground[unsaid] = torch.where((colour[unsaid] == white) | (colour[unsaid] == yellow), black, white)
    shape[shape == NOTHING[2]] = 0
    motion[motion == NOTHING[3]] = MOTION_STILL
    size[size == NOTHING[4]] = 1
    return torch.stack([colour, ground, shape, motion, size], 1)


MOTION_STILL = ATTRIBUTES["motion"].index("still")


def _exceptions(
    video: torch.Tensor,
    meaning: torch.Tensor,
    from_image: torch.Tensor,
    photograph: torch.Tensor,
    palette: torch.Tensor,
    rng: torch.Generator,
) -> torch.Tensor:
    """No object said: an empty, calm picture. A photograph given: it stands still, whatever is said."""
    count, _, _, height, width = video.shape
    calm = (meaning[:, 0] == NOTHING[0]) & (meaning[:, 2] == NOTHING[2]) & ~from_image
    grounds = torch.cat([palette, _CALM[None]])[meaning[calm, 1]]
    video[calm] = grounds[:, None, :, None, None].expand_as(video[calm])
    pictures = textures(count, height, width, rng)[photograph]
    video[photograph] = pictures[:, None].expand_as(video[photograph])
    return video


def _texts(meaning: torch.Tensor, book: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """The code at every token, as inexact as a text encoder says it."""
    text = encode(meaning, book)[:, None].expand(-1, TOKENS, -1)
    shared = torch.randn(len(text), 1, text.shape[-1], generator=rng)
    return text + 0.1 * torch.randn(text.shape, generator=rng) + 0.05 * shared


def _times(count: int, rng: torch.Generator) -> torch.Tensor:
    """Every batch sees all noise levels evenly."""
    even = (torch.arange(count) + torch.rand(count, generator=rng)) / count
    return (even[torch.randperm(count, generator=rng)] * 1000).long().clamp(0, 999)
