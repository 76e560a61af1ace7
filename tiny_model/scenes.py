"""The model's world: one coloured shape on a plain background, moving as told. Clips as pixels and as latents."""

import math
from dataclasses import dataclass

import torch
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

COLOURS = {
    "red": (225, 45, 45),
    "orange": (245, 140, 30),
    "yellow": (245, 225, 60),
    "green": (45, 170, 70),
    "blue": (45, 85, 220),
    "purple": (145, 60, 185),
    "white": (240, 240, 240),
    "black": (20, 20, 20),
}
SHAPES = ("circle", "square", "triangle", "star")
MOTIONS = ("right", "left", "up", "down", "still", "grow")
SIZES = ("small", "big")
# Unit steps in pixels, x to the right and y down.
DIRECTIONS = {"right": (1.0, 0.0), "left": (-1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
RADII = {"small": 15.0, "big": 22.5}  # pixels
TRAVEL, TRAVEL_FRAMES = 32.0, 80  # pixels over an 81-frame clip
MOST_FRAMES = 96  # then everything rests: in a longer clip it would leave the picture
GROWN_FROM, GROWN_BY = 0.65, 0.75  # the radius at first, and what is added over an 81-frame clip
STAR, STAR_INNER = 1.5, 0.45  # its reach in radii, and that of its inner corners as a share of it
CELL, CELL_FRAMES = 8, 4  # a latent is the mean colour of so many pixels a side, and frames


@dataclass(frozen=True)
class Clips:
    """A batch of moving shapes; places and speeds in pixels and frames, colours in -1..1."""

    shape: torch.Tensor
    radius: torch.Tensor
    start: torch.Tensor
    velocity: torch.Tensor
    grows: torch.Tensor
    colour: torch.Tensor
    background: torch.Tensor

    def __getitem__(self, chosen: torch.Tensor) -> "Clips":
        return Clips(*(value[chosen] for value in vars(self).values()))


def rgb(colour: str) -> torch.Tensor:
    return torch.tensor(COLOURS[colour]) / 127.5 - 1


def coverage(clips: Clips, frames: torch.Tensor, height: int, width: int, pitch: int = 1) -> torch.Tensor:
    """How much of each pixel the shape covers: (clips, frames, height / pitch, width / pitch)."""
    y, x = torch.meshgrid(_centres(height, pitch), _centres(width, pitch), indexing="ij")
    out = torch.zeros(len(clips.shape), len(frames), *x.shape)
    for kind in range(len(SHAPES)):
        chosen = (clips.shape == kind).nonzero()[:, 0]
        if len(chosen):
            some = clips[chosen]
            moving = frames.clamp(max=MOST_FRAMES)
            place = some.start[:, None] + some.velocity[:, None] * moving[None, :, None]
            growth = GROWN_FROM + GROWN_BY * moving / TRAVEL_FRAMES
            radius = some.radius[:, None] * torch.where(some.grows[:, None], growth, 1.0)
            away = distance(SHAPES[kind], x - place[..., 0, None, None], y - place[..., 1, None, None], radius)
            out[chosen] = (0.5 - away / pitch).clamp(0, 1)
    return out


def distance(shape: str, x: torch.Tensor, y: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """Signed distance to the shape's edge, negative inside."""
    r = radius[..., None, None]
    if shape == "circle":
        return torch.hypot(x, y) - r
    if shape == "square":
        return torch.maximum(x.abs(), y.abs()) - 0.9 * r
    if shape == "triangle":
        y = y - 0.18 * r
        return torch.maximum(y, 0.5 * (math.sqrt(3) * x.abs() - y)) - 0.66 * r
    return _star(x, y, STAR * r)


def _star(x: torch.Tensor, y: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """Five points, folded into one edge from an outer tip to the inner corner beside it."""
    part = math.pi / 5
    angle = torch.remainder(torch.atan2(x, -y) + part, 2 * part) - part
    reach = torch.hypot(x, y)
    along, across = STAR_INNER * math.cos(part) - 1, STAR_INNER * math.sin(part)
    outside = (reach * angle.cos() - radius) * across - reach * angle.abs().sin() * along
    return outside / math.hypot(along, across)


def pixels(clips: Clips, num_frames: int, height: int, width: int) -> torch.Tensor:
    """The clip itself: (clips, 3, frames, height, width) in -1..1."""
    mask = coverage(clips, torch.arange(num_frames).float(), height, width)[:, None]
    return _paint(mask, clips.colour[:, :, None, None, None], clips.background[:, :, None, None, None])


def latents(clips: Clips, latent_frames: int, height: int, width: int) -> torch.Tensor:
    """What the encoder makes of the clip, without rendering every pixel: (clips, latents, 3, h, w)."""
    later = torch.arange(1, latent_frames).float() * CELL_FRAMES
    # Two instants stand for the four frames of a latent; the first latent is the first frame alone.
    instants = torch.cat([torch.zeros(1), torch.stack([later - 2.5, later - 0.5], 1).flatten()])
    fine = coverage(clips, instants, height, width, pitch=2)
    cells = avg_pool2d(fine, CELL // 2)
    mask = torch.cat([cells[:, :1], cells[:, 1:].unflatten(1, (-1, 2)).mean(2)], 1)[:, :, None]
    return _paint(mask, clips.colour[:, None, :, None, None], clips.background[:, None, :, None, None])


def cells(video: torch.Tensor) -> torch.Tensor:
    """The same for any pixels, (clips, 3, frames, height, width): exactly what the encoder computes."""
    pooled = avg_pool2d(video.transpose(1, 2).flatten(0, 1), CELL).unflatten(0, (video.shape[0], -1))
    rest = pooled[:, 1:].unflatten(1, (-1, CELL_FRAMES)).mean(2)
    return torch.cat([pooled[:, :1], rest], 1)


def outlines(video: torch.Tensor, across: int) -> torch.Tensor:
    """How much a place differs from those around it, 0 to 1: (clips, frames, 1, height, width)."""
    flat = video.flatten(0, 1)
    spread = max_pool2d(flat, across, 1, across // 2) + max_pool2d(-flat, across, 1, across // 2)
    return spread.mean(1, keepdim=True).clamp(0, 1).unflatten(0, video.shape[:2])


def textures(count: int, height: int, width: int, rng: torch.Generator) -> torch.Tensor:
    """Pictures with the statistics of photographs: soft large forms, ever weaker small ones. (count, 3, h, w)."""
    picture = torch.randn(count, 3, 1, 1, generator=rng) * 0.3
    hue = torch.randn(count, 3, 3, generator=rng)
    strength, across = 0.6, 2
    while across <= max(height, width):
        noise = torch.randn(count, 3, across, across, generator=rng)
        noise = torch.einsum("bij,bjhw->bihw", hue, noise) * 0.5
        picture = picture + strength * interpolate(noise, (height, width), mode="bilinear", align_corners=True)
        strength, across = strength * 0.55, across * 2
    return picture.clamp(-1, 1)


def _paint(mask: torch.Tensor, colour: torch.Tensor, background: torch.Tensor) -> torch.Tensor:
    return background + mask * (colour - background)


def _centres(side: int, pitch: int) -> torch.Tensor:
    return torch.arange(0, side, pitch) + pitch / 2
