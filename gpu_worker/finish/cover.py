"""The cover image: the clip's first frame."""

from pathlib import Path

from PIL import Image

from gpu_worker.finish.frames import Frames


def with_cover(frames: Frames, path: Path) -> Frames:
    """Pass the frames on, keeping the first as a JPEG."""
    for index, frame in enumerate(frames):
        if index == 0:
            Image.fromarray(frame).save(path, "JPEG", quality=90)
        yield frame
