"""Decoding in tiles, each by one of several ranks: the same tiles, blended in the same way, as by one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from gpu_worker.engine.ranks import Ranks

Place = tuple[int, int]
"""Row and column of a tile."""


@dataclass(frozen=True)
class Tile:
    row: int
    column: int
    top: int
    left: int


def tiles_of(vae: Any, height: int, width: int) -> list[Tile]:
    down = int(vae.tile_latent_min_height * (1 - vae.tile_overlap_factor_height))
    right = int(vae.tile_latent_min_width * (1 - vae.tile_overlap_factor_width))
    return [
        Tile(row, column, top, left)
        for row, top in enumerate(range(0, height, down))
        for column, left in enumerate(range(0, width, right))
    ]


def decode_shared(vae: Any, latents: torch.Tensor, ranks: Ranks) -> torch.Tensor | None:
    """The video at the leader; None at the others."""
    tiles = tiles_of(vae, *latents.shape[3:])
    if ranks.rank:
        for pixels in _own_tiles(vae, latents, tiles, ranks).values():
            dist.send(torch.tensor(pixels.shape), 0, group=ranks.words)
            dist.send(pixels.contiguous(), 0)
        return None
    try:
        decoded = _own_tiles(vae, latents, tiles, ranks)
    except Exception:
        # Cancelled, say: the others do not know, and would wait for ever with what they send.
        for _ in _heard_tiles(latents, tiles, ranks):
            pass
        raise
    return blend(vae, decoded | dict(_heard_tiles(latents, tiles, ranks)))


def _own_tiles(vae: Any, latents: torch.Tensor, tiles: list[Tile], ranks: Ranks) -> dict[Place, torch.Tensor]:
    own = (tile for number, tile in enumerate(tiles) if number % ranks.world == ranks.rank)
    return {(tile.row, tile.column): decode_tile(vae, latents, tile) for tile in own}


def _heard_tiles(latents: torch.Tensor, tiles: list[Tile], ranks: Ranks) -> Iterator[tuple[Place, torch.Tensor]]:
    for number, tile in enumerate(tiles):
        if owner := number % ranks.world:
            shape = torch.empty(5, dtype=torch.int64)
            dist.recv(shape, owner, group=ranks.words)
            pixels = latents.new_empty(shape.tolist())
            dist.recv(pixels, owner)
            yield (tile.row, tile.column), pixels


def decode_tile(vae: Any, latents: torch.Tensor, tile: Tile) -> torch.Tensor:
    """A few latent frames at a time, as the VAE does it, with what its convolutions remember."""
    part = latents[
        ...,
        tile.top : tile.top + vae.tile_latent_min_height,
        tile.left : tile.left + vae.tile_latent_min_width,
    ]
    frames, step = part.shape[2], vae.num_latent_frames_batch_size
    rest, start, memory, done = frames % step, 0, None, []
    for chunk in range(max(frames // step, 1)):
        end = step * (chunk + 1) + rest
        piece = part[:, :, start:end]
        if vae.post_quant_conv is not None:
            piece = vae.post_quant_conv(piece)
        pixels, memory = vae.decoder(piece, conv_cache=memory)
        done.append(pixels)
        start = end
    return torch.cat(done, dim=2)


def blend(vae: Any, decoded: dict[tuple[int, int], torch.Tensor]) -> torch.Tensor:
    """Each tile fades into the one above and the one to its left."""
    high = int(vae.tile_sample_min_height * vae.tile_overlap_factor_height)
    wide = int(vae.tile_sample_min_width * vae.tile_overlap_factor_width)
    kept_high, kept_wide = vae.tile_sample_min_height - high, vae.tile_sample_min_width - wide
    rows: dict[int, list[torch.Tensor]] = {}
    for (row, column), pixels in sorted(decoded.items()):
        # In place, as in stock: the next tile is blended with this one as blended.
        if row:
            vae.blend_v(decoded[row - 1, column], pixels, high)
        if column:
            vae.blend_h(decoded[row, column - 1], pixels, wide)
        rows.setdefault(row, []).append(pixels[:, :, :, :kept_high, :kept_wide])
    return torch.cat([torch.cat(row, dim=4) for row in rows.values()], dim=3)
