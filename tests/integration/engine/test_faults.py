"""What the engine makes of a device that fails or is too small."""

import errno
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from gpu_worker.engine import __main__ as engine
from gpu_worker.engine.lean import lean
from gpu_worker.engine.model import Model
from gpu_worker.engine.render import Clip, Renderer
from tests.integration.engine.test_equality import plan

pytestmark = pytest.mark.worker


@pytest.mark.parametrize(
    ("error", "answers", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True, "out_of_gpu_memory"),
        (RuntimeError("CUDA error: an illegal memory access"), False, "device_fault"),
        (RuntimeError("sizes differ"), True, "engine_fault"),
        (OSError(errno.ENOSPC, "no space left"), True, "worker_disk_full"),
    ],
)
def test_every_failure_has_its_code(
    error: Exception, answers: bool, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "device_answers", lambda: answers)

    assert engine.code_of(error) == code


def test_device_that_computes_answers() -> None:
    assert engine.device_answers()


def test_lean_render_has_the_same_size_and_leaves_the_model_as_it_was(model: Model, tmp_path: Path) -> None:
    renderer = Renderer(model)

    def render(name: str) -> np.ndarray:
        frames = tmp_path / name
        clip = Clip(plan("dpm", width=128, height=64), "a red ball", None, 3)
        renderer.render(clip, frames, lambda *_: None)
        return np.load(frames)

    usual = render("usual.npy")
    with lean(model):
        small = render("lean.npy")
        assert renderer.used["decode"] == "vae, tiled"

    assert small.shape == usual.shape
    assert np.array_equal(render("again.npy"), usual)
    assert renderer.used["decode"] == "vae"
