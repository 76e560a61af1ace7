"""What a clip shows, measured from its pixels alone: colours, shape, movement."""

import math
from dataclasses import dataclass

import torch

from tiny_model.scenes import (
    COLOURS,
    GROWN_BY,
    GROWN_FROM,
    MOST_FRAMES,
    SHAPES,
    STAR,
    STAR_INNER,
    TRAVEL,
    TRAVEL_FRAMES,
    distance,
)

FAINT = 0.2  # distance of colours in 0..1 below which there is no object
_UNIT_AREAS = {
    "circle": math.pi,
    "square": 3.24,
    "triangle": 3 * math.sqrt(3) * 0.66**2,
    "star": 5 * STAR_INNER * math.sin(math.pi / 5) * STAR**2,
}
_PALETTE = {name: torch.tensor(value) / 255 for name, value in COLOURS.items()}


@dataclass(frozen=True)
class Seen:
    """None where nothing is to be seen."""

    background: str
    colour: str | None = None
    shape: str | None = None
    motion: str | None = None
    moved: tuple[float, float] = (0.0, 0.0)
    """Of the centre, from the first frames to the last, in pixels to the right and down."""


def see(frames: torch.Tensor) -> Seen:
    """Read a clip of (frames, 3, height, width) in 0..1."""
    ground = frames.transpose(0, 1).flatten(1).median(1).values
    away = (frames - ground[:, None, None]).norm(dim=1)
    strong = away.flatten()[:: max(1, away.numel() // 500_000)].quantile(0.99)
    if strong < FAINT:
        return Seen(nearest(ground))
    core = frames.transpose(0, 1)[:, away > 0.75 * strong]
    colour = core.median(1).values
    cover = (away / (colour - ground).norm()).clamp(0, 1)
    cover = torch.where(cover > 0.25, cover, 0.0)
    motion, moved = _motion(cover)
    return Seen(nearest(ground), nearest(colour), nearest_shape(cover[len(cover) // 2]), motion, moved)


def nearest(colour: torch.Tensor) -> str:
    return min(_PALETTE, key=lambda name: float((_PALETTE[name] - colour).norm()))


def nearest_shape(cover: torch.Tensor) -> str:
    """The shape of the same area in the same place that overlaps best."""
    area = float(cover.sum())
    centre = _centre(cover)
    scores = {}
    for shape in SHAPES:
        radius = torch.tensor(math.sqrt(max(area, 1.0) / _UNIT_AREAS[shape]))
        drawn = _drawn(shape, centre, radius, cover.shape)
        # A triangle's centre of mass is not its origin.
        drawn = _drawn(shape, 2 * centre - _centre(drawn), radius, cover.shape)
        scores[shape] = float(torch.minimum(drawn, cover).sum() / torch.maximum(drawn, cover).sum())
    return max(scores, key=lambda shape: scores[shape])


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    """Decibels between pictures in 0..1."""
    return float(-10 * torch.log10(((one - other) ** 2).mean().clamp(min=1e-9)))


def _motion(cover: torch.Tensor) -> tuple[str, tuple[float, float]]:
    count = len(cover)
    some = max(1, count // 16)
    first, last = cover[:some].mean(0), cover[-some:].mean(0)
    moved = (_centre(last) - _centre(first)).tolist()
    passed = min(count - some, MOST_FRAMES)
    expected = TRAVEL * passed / TRAVEL_FRAMES
    growth = (GROWN_FROM + GROWN_BY * passed / TRAVEL_FRAMES) / GROWN_FROM
    across, down = moved
    if max(abs(across), abs(down)) > 0.4 * expected:
        sideways, upright = ("right" if across > 0 else "left"), ("down" if down > 0 else "up")
        return (sideways if abs(across) > abs(down) else upright), (across, down)
    ratio = float(last.sum() / first.sum().clamp(min=1))
    return ("grow" if ratio > 1 + 0.4 * (growth**2 - 1) else "still"), (across, down)


def _centre(cover: torch.Tensor) -> torch.Tensor:
    height, width = cover.shape
    total = cover.sum().clamp(min=1e-3)
    across = (cover.sum(0) * (torch.arange(width) + 0.5)).sum() / total
    down = (cover.sum(1) * (torch.arange(height) + 0.5)).sum() / total
    return torch.stack([across, down])


def _drawn(shape: str, centre: torch.Tensor, radius: torch.Tensor, size: torch.Size) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    return (0.5 - distance(shape, x - centre[0], y - centre[1], radius)).clamp(0, 1)
