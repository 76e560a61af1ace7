"""Frames for the moderation service."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpu_worker.finish.samples import with_samples

pytestmark = pytest.mark.worker


@pytest.mark.parametrize(
    ("count", "wanted"), [(0, []), (1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (16, list(range(10)))]
)
def test_samples_are_spread_over_the_clip_and_small(tmp_path: Path, count: int, wanted: list[int]) -> None:
    frames = [np.full((500, 1000, 3), 20 * index, np.uint8) for index in range(10)]

    passed = list(with_samples(iter(frames), tmp_path, count, len(frames)))

    assert len(passed) == len(frames)
    kept = sorted(tmp_path.glob("sample-*.jpg"))
    assert [int(path.stem.split("-")[1]) for path in kept] == wanted
    for path in kept:
        with Image.open(path) as small:
            assert small.size == (768, 384)
