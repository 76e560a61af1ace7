"""What the engine makes of a device that fails or is too small."""

import errno

import pytest

pytest.importorskip("torch")

import torch

from gpu_worker.engine import __main__ as engine

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
