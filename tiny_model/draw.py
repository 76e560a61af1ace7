"""Clips and captions drawn at random, always from a generator that is given."""

import zlib
from dataclasses import dataclass
from itertools import product

import torch

from tiny_model.scenes import COLOURS, DIRECTIONS, MOTIONS, RADII, SHAPES, SIZES, TRAVEL, TRAVEL_FRAMES, Clips, rgb

PALETTE = torch.stack([rgb(colour) for colour in COLOURS])
_STEPS = torch.tensor([DIRECTIONS.get(motion, (0.0, 0.0)) for motion in MOTIONS])
_RADII = torch.tensor([RADII[size] for size in SIZES])
_HELD_OUT_SHARE = 8
ASIDE, ALONG = 14.0, 4.0  # how far from the middle of its way an object may pass, in pixels


@dataclass(frozen=True)
class Scenes:
    """What captions tell, as indices into the world's lists."""

    colour: torch.Tensor
    background: torch.Tensor
    shape: torch.Tensor
    motion: torch.Tensor
    size: torch.Tensor


def draw_scenes(count: int, rng: torch.Generator) -> Scenes:
    colour = torch.randint(len(COLOURS), (count,), generator=rng)
    other = torch.randint(1, len(COLOURS), (count,), generator=rng)
    return Scenes(
        colour=colour,
        background=(colour + other) % len(COLOURS),
        shape=torch.randint(len(SHAPES), (count,), generator=rng),
        motion=torch.randint(len(MOTIONS), (count,), generator=rng),
        size=torch.randint(len(SIZES), (count,), generator=rng),
    )


def is_held_out(scenes: Scenes) -> torch.Tensor:
    """One in nine combinations of colour, background, shape and motion: no stage of training draws or tells them."""
    return _HELD_OUT[scenes.colour, scenes.background, scenes.shape, scenes.motion]


def trained_scenes(count: int, rng: torch.Generator) -> Scenes:
    """Scenes without those held out for the examination."""
    drawn = draw_scenes(2 * count, rng)
    free = (~is_held_out(drawn)).nonzero()[:count, 0]
    return Scenes(*(value[free] for value in vars(drawn).values()))


def held_out_scenes(count: int, rng: torch.Generator) -> Scenes:
    """Scenes that no stage of training draws or tells; none comes again before all have come."""
    kept = _HELD_OUT.nonzero()
    order = torch.cat([torch.randperm(len(kept), generator=rng) for _ in range(-(-count // len(kept)))])[:count]
    sizes = torch.randint(len(SIZES), (count, 1), generator=rng)
    return Scenes(*torch.cat([kept[order], sizes], 1).unbind(1))


def clips_of(scenes: Scenes, start: torch.Tensor, height: int, width: int, palette: torch.Tensor = PALETTE) -> Clips:
    """The clips of these scenes, each from its start (pixels)."""
    return Clips(
        shape=scenes.shape,
        radius=_RADII[scenes.size],
        start=start,
        velocity=_STEPS[scenes.motion] * TRAVEL / TRAVEL_FRAMES,
        grows=scenes.motion == MOTIONS.index("grow"),
        colour=palette[scenes.colour],
        background=palette[scenes.background],
    )


def anywhere(scenes: Scenes, height: int, width: int, rng: torch.Generator) -> torch.Tensor:
    """Starts all over the picture: the object wholly inside, wherever it may go from there."""
    sides = torch.tensor([float(width), float(height)])
    room = sides - 2 * _RADII[scenes.size][:, None]
    return sides / 2 + room * (torch.rand(len(scenes.size), 2, generator=rng) - 0.5)


def inside(scenes: Scenes, height: int, width: int, offset: torch.Tensor) -> torch.Tensor:
    """Starts from which the object crosses the middle; `offset` in -1..1 says how far beside it, less along its way."""
    steps = _STEPS[scenes.motion]
    beside = torch.where(steps != 0, ALONG, ASIDE)
    return torch.tensor([width, height]) / 2 - steps * TRAVEL / 2 + offset * beside


def _held_out() -> torch.Tensor:
    """By name, so that neither the order of the lists nor a random generator decides."""
    named = product(COLOURS, COLOURS, SHAPES, MOTIONS)
    kept = [zlib.crc32("|".join(names).encode()) % _HELD_OUT_SHARE == 0 for names in named]
    held_out = torch.tensor(kept).view(len(COLOURS), len(COLOURS), len(SHAPES), len(MOTIONS))
    held_out[torch.eye(len(COLOURS), dtype=torch.bool)] = False
    return held_out


_HELD_OUT = _held_out()
