"""The finishing stages on real files, decoded again."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")

from PIL import Image

from gpu_worker.engine.protocol import Cancel, Done, Failed, Finish, Message, Ready, read_messages, write_message
from gpu_worker.finish.encode import encode
from gpu_worker.finish.frames import Frame
from gpu_worker.finish.interpolate import interpolate
from gpu_worker.finish.scale import scale
from video_jobs.job import RenderPlan

pytestmark = pytest.mark.worker


def square_at(x: float, side: int = 16, width: int = 96, height: int = 64) -> Frame:
    """A bright textured square on a dark gradient; `x` is its left edge."""
    frame = np.tile(np.linspace(20, 60, width, dtype=np.uint8)[None, :, None], (height, 1, 3))
    left = round(x)
    tile = 180 + 70 * ((np.indices((side, side)).sum(0) // 4) % 2)
    frame[24 : 24 + side, left : left + side] = tile[:, :, None]
    return frame


def centre(frame: Frame) -> float:
    weight = (frame[:, :, 0].astype(float) > 120).sum(0)
    return float((weight * np.arange(len(weight))).sum() / weight.sum())


def test_moving_square_lies_between_its_neighbours_and_stays_sharp() -> None:
    native = np.stack([square_at(20 + 6 * k) for k in range(6)])

    out = list(interpolate(native, 16, 32, 11))

    moved = [centre(frame) for frame in out]
    assert moved == sorted(moved)
    for k in range(1, 10, 2):
        assert centre(out[k]) == pytest.approx((centre(out[k - 1]) + centre(out[k + 1])) / 2, abs=1.0)
        blend = (out[k - 1].astype(float) + out[k + 1]) / 2
        bright = (out[k][:, :, 0] > 150).sum()
        assert bright > 1.3 * (blend[:, :, 0] > 150).sum(), "a blend of two places is dimmer than one moved square"


@pytest.mark.parametrize(
    ("native_fps", "fps", "frames", "count"), [(16, 30, 81, 150), (16, 60, 161, 600), (8, 30, 49, 150)]
)
def test_count_is_exact_and_native_moments_are_untouched(native_fps: int, fps: int, frames: int, count: int) -> None:
    native = np.random.default_rng(1).integers(0, 255, (frames, 16, 16, 3), dtype=np.uint8)

    out = list(interpolate(native, native_fps, fps, count))

    assert len(out) == count
    assert np.array_equal(out[0], native[0])
    assert np.array_equal(out[fps], native[native_fps])


def test_scene_cut_is_not_blended() -> None:
    native = np.stack([np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)])

    assert {int(frame.mean()) for frame in interpolate(native, 16, 60, 4)} == {0, 255}


def test_still_picture_stays_still() -> None:
    native = np.stack([square_at(40)] * 3)

    for frame in interpolate(native, 16, 30, 4):
        assert np.abs(frame.astype(int) - native[0]).max() <= 1


@pytest.mark.parametrize(("width", "height"), [(192, 128), (128, 128), (64, 128), (30, 20)])
def test_scaling_keeps_the_ratio_by_cropping(width: int, height: int) -> None:
    y, x = np.indices((64, 96))
    disc = (((x - 47.5) ** 2 + (y - 31.5) ** 2) < 14**2).astype(np.uint8)[:, :, None].repeat(3, axis=2) * 255

    (out,) = scale(iter([disc]), width, height)

    assert out.shape == (height, width, 3)
    inside = out[:, :, 0] > 127
    wide, high = inside.any(0).sum(), inside.any(1).sum()
    assert wide == pytest.approx(high, abs=2)


def test_file_is_what_players_expect(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    colours = [(200, 30, 30), (30, 180, 60), (40, 60, 200)]
    frames: Iterator[Frame] = (np.full((96, 160, 3), colours[k // 10], np.uint8) for k in range(30))

    assert encode(frames, path, 160, 96, 30) == 30

    raw = path.read_bytes()
    assert raw.index(b"moov") < raw.index(b"mdat")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.profile, context.pix_fmt) == ("h264", "High", "yuv420p")
        assert (context.width, context.height, stream.average_rate, stream.frames) == (160, 96, 30, 30)
        assert (context.color_primaries, context.color_trc, context.colorspace) == (1, 1, 1)
        assert container.duration == 1_000_000
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    for k in (5, 15, 25):
        assert np.abs(decoded[k].mean((0, 1)) - colours[k // 10]).max() < 6


def plan(frames: int = 17, out_frames: int = 30, size: tuple[int, int] = (160, 96)) -> RenderPlan:
    return RenderPlan(
        **{"checkpoint": "tiny", "preset": "speed", "native_fps": 16, "steps": 10, "guidance": 6.0},
        **{"max_text_tokens": 64, "scheduler": "ddim", "width": 96, "height": 64, "num_frames": frames},
        **{"out_width": size[0], "out_height": size[1], "out_fps": 30, "out_frames": out_frames},
    )


class Child:
    def __init__(self) -> None:
        child_reads, self.write_fd = os.pipe()
        read_fd, child_writes = os.pipe()
        command = [sys.executable, "-P", "-m", "gpu_worker.finish", "--fds", str(child_reads), str(child_writes)]
        self.process = subprocess.Popen(command, pass_fds=(child_reads, child_writes))
        os.close(child_reads)
        os.close(child_writes)
        self.messages = read_messages(read_fd)
        assert isinstance(next(self.messages), Ready)

    def ask(self, job: Finish) -> None:
        write_message(self.write_fd, job)

    def answer(self) -> Message:
        return next(message for message in self.messages if isinstance(message, Done | Failed))


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child()
    yield child
    os.close(child.write_fd)
    assert child.process.wait(10) == 0, "a child ends when its pipe closes"


def job(folder: Path, token: str, asked: RenderPlan) -> Finish:
    frames = folder / "frames.npy"
    np.save(frames, np.stack([square_at(10 + k % 60) for k in range(asked.num_frames)]))
    paths = {name: str(folder / f"{token}-{name}") for name in ("video", "cover")}
    return Finish(
        job_id="1",
        token=token,
        plan=asked,
        frames_path=str(frames),
        video_path=paths["video"],
        cover_path=paths["cover"],
    )


def test_child_makes_one_clip_after_another(child: Child, tmp_path: Path) -> None:
    for token in ("first", "second"):
        asked = job(tmp_path, token, plan())
        child.ask(asked)
        done = child.answer()
        assert isinstance(done, Done)
        assert (done.token, set(done.stages)) == (token, {"interpolate", "scale", "encode", "cover"})
        with av.open(asked.video_path) as container:
            assert container.streams.video[0].frames == 30
        with Image.open(asked.cover_path) as cover:
            assert (cover.format, cover.size) == ("JPEG", (160, 96))


def test_child_stops_when_cancelled_and_takes_the_next(child: Child, tmp_path: Path) -> None:
    child.ask(job(tmp_path, "long", plan(161, 600, (1920, 1080))))
    write_message(child.write_fd, Cancel(job_id="1", token="long"))
    cancelled = child.answer()
    child.ask(job(tmp_path, "next", plan()))

    assert isinstance(cancelled, Failed)
    assert cancelled.code == "cancelled"
    assert isinstance(child.answer(), Done)


def test_missing_frames_are_an_error_of_this_job_alone(child: Child, tmp_path: Path) -> None:
    child.ask(job(tmp_path, "gone", plan()).model_copy(update={"frames_path": str(tmp_path / "none.npy")}))
    failed = child.answer()

    assert isinstance(failed, Failed)
    assert failed.code == "encode_failed"
