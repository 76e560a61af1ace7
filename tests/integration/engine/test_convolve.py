"""oneDNN on the CPU: it is really called, for every convolution, and the clip is the same to the eye."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from gpu_worker.engine.load import load_model
from gpu_worker.engine.render import Clip, Renderer
from gpu_worker.engine.tune import Options
from tests.integration.engine.plans import small_plan

pytestmark = pytest.mark.worker


def test_every_convolution_goes_to_onednn_and_pixels_stay(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model("tiny-random", models, torch.device("cpu"))
    clip, calls, whole = Clip(small_plan(), "a red ball", None, 3), [], torch.mkldnn_convolution

    def counted(*args: Any) -> torch.Tensor:
        calls.append(args)
        return whole(*args)

    monkeypatch.setattr(torch, "mkldnn_convolution", counted)
    Renderer(model).render(clip, tmp_path / "stock.npy", lambda *_: None)
    assert not calls, "with nothing switched on the decoder is the stock one"

    slow: list[object] = []
    fast = Renderer(model, options=Options(onednn=True))
    monkeypatch.setattr(nn.Conv3d, "_conv_forward", lambda *args: slow.append(args))
    fast.render(clip, tmp_path / "fast.npy", lambda *_: None)

    assert calls
    assert not slow
    assert fast.used["decode"] == "vae, onednn"
    stock, ours = (np.load(tmp_path / f"{name}.npy").astype(int) for name in ("stock", "fast"))
    assert np.abs(stock - ours).max() <= 1
