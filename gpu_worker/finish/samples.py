"""Frames for the moderation service: evenly spread over the clip, small."""

from pathlib import Path

from PIL import Image

from gpu_worker.finish.frames import Frames

SIDE, QUALITY = 768, 85


def with_samples(frames: Frames, folder: Path, count: int, total: int) -> Frames:
    """Pass the frames on, keeping some: the first and the last among them."""
    wanted = {round(index * (total - 1) / max(1, count - 1)) for index in range(count)}
    for index, frame in enumerate(frames):
        if index in wanted:
            small = Image.fromarray(frame)
            small.thumbnail((SIDE, SIDE))
            small.save(folder / f"sample-{index:05d}.jpg", "JPEG", quality=QUALITY)
        yield frame
