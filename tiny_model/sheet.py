"""Sample sheets: one clip a row, five of its frames from first to last."""

from pathlib import Path

import torch
from PIL import Image

CELL, GAP = 112, 4


def write_sheet(strips: list[torch.Tensor], path: Path, columns: int = 2) -> None:
    """Strips of (frames, 3, height, width) in 0..1, in as many columns, read along the rows."""
    frames = len(strips[0])
    wide = frames * (CELL + GAP) + 3 * GAP
    rows = -(-len(strips) // columns)
    sheet = Image.new("RGB", (columns * wide, rows * (CELL + GAP)), "white")
    for place, strip in enumerate(strips):
        left, top = (place % columns) * wide, (place // columns) * (CELL + GAP)
        for step, frame in enumerate(strip):
            pixels = (frame.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
            picture = Image.fromarray(pixels)
            picture.thumbnail((CELL, CELL))
            sheet.paste(picture, (left + step * (CELL + GAP), top))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)
