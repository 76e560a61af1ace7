"""What both stores promise."""

import os
import time
from pathlib import Path

import pytest

from video_jobs.results import ResultStore


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"frames")
    return path


def test_an_object_comes_back_as_it_was_put(store: ResultStore, clip: Path, tmp_path: Path) -> None:
    store.put("videos/1/2/video.mp4", clip, "video/mp4")
    store.fetch("videos/1/2/video.mp4", tmp_path / "back")

    assert (tmp_path / "back").read_bytes() == b"frames"


def test_a_large_object_goes_in_parts_and_comes_back_whole(store: ResultStore, tmp_path: Path) -> None:
    large = tmp_path / "large.mp4"
    large.write_bytes(os.urandom(37 << 20))

    store.put("videos/1/2/video.mp4", large, "video/mp4")
    store.fetch("videos/1/2/video.mp4", tmp_path / "back")

    assert (tmp_path / "back").read_bytes() == large.read_bytes()


def test_putting_again_replaces(store: ResultStore, clip: Path, tmp_path: Path) -> None:
    store.put("videos/1/2/video.mp4", clip, "video/mp4")
    clip.write_bytes(b"other frames")
    store.put("videos/1/2/video.mp4", clip, "video/mp4")
    store.fetch("videos/1/2/video.mp4", tmp_path / "back")

    assert (tmp_path / "back").read_bytes() == b"other frames"


def test_an_absent_object_is_a_key_error_and_deleting_it_is_fine(store: ResultStore, tmp_path: Path) -> None:
    store.delete("videos/1/2/none.mp4")

    with pytest.raises(KeyError):
        store.fetch("videos/1/2/none.mp4", tmp_path / "back")


def test_a_deleted_object_is_gone(store: ResultStore, clip: Path, tmp_path: Path) -> None:
    store.put("videos/1/2/video.mp4", clip, "video/mp4")
    store.delete("videos/1/2/video.mp4")

    assert list(store.keys("videos/")) == []
    with pytest.raises(KeyError):
        store.fetch("videos/1/2/video.mp4", tmp_path / "back")


def test_keys_are_listed_below_a_prefix_with_their_age(store: ResultStore, clip: Path) -> None:
    for key in ("videos/1/2/video.mp4", "videos/1/2/cover.jpg", "images/a.png"):
        store.put(key, clip, "video/mp4")

    found = dict(store.keys("videos/"))

    assert sorted(found) == ["videos/1/2/cover.jpg", "videos/1/2/video.mp4"]
    assert all(abs(time.time() - stored) < 60 for stored in found.values())
    assert list(store.keys("none/")) == []


def test_a_store_that_can_be_written_passes_its_check(store: ResultStore) -> None:
    store.check()
