"""Eight-bit linear layers are really used, near the native ones, and never in silence when they cannot be."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from gpu_worker.engine.attention import FusedAttention, install
from gpu_worker.engine.kernels import Kernel, sdpa
from gpu_worker.engine.load import load_model, pick_device
from gpu_worker.engine.memory import Place, lower_than, preset_named, with_text
from gpu_worker.engine.model import Model
from gpu_worker.engine.precision import PrecisionUnusable, lowered
from gpu_worker.engine.predict import Conditions, Predictor
from gpu_worker.engine.render import Clip, Renderer
from gpu_worker.engine.text import encode_prompt
from tests.integration.engine.plans import small_plan

pytestmark = pytest.mark.worker
CPU = pick_device("cpu")


def predicted(transformer: object) -> torch.Tensor:
    embeds = torch.randn(2, 64, 32, generator=torch.Generator().manual_seed(1))
    sample = torch.randn(1, 4, 16, 4, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return Predictor(transformer, Conditions(embeds, None, None, 6.0))(sample, torch.tensor(500), False)


def test_int8_blocks_work_in_eight_bits_and_near_the_native_ones(model: Model) -> None:
    pytest.importorskip("torchao")
    native = model.transformers["t2v"]
    install(native, FusedAttention())

    variant = lowered(native, "int8", CPU)

    kinds = {name: type(part).__name__ for name, part in variant.transformer_blocks[0].named_parameters()}
    assert kinds["attn1.to_qkv.weight"] == kinds["attn1.to_out.0.weight"] == kinds["ff.net.2.weight"] == "Int8Tensor"
    assert kinds["norm1.linear.weight"] == "Parameter"
    assert type(native.transformer_blocks[0].attn1.to_qkv.weight).__name__ == "Parameter", "the native ones stay"
    assert variant.proj_out is native.proj_out, "all else is shared"
    exact, rounded = predicted(native), predicted(variant)
    error = float((exact - rounded).norm() / exact.norm())
    assert 0 < error < 0.05


def test_a_plan_in_int8_says_so_and_the_next_exact_one_is_exact(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchao")
    kept: list[torch.Tensor] = []
    monkeypatch.setattr("gpu_worker.engine.render.write_frames", lambda frames, _: kept.append(frames))
    renderer, used = Renderer(model), []
    for precision in ("native", "int8", "native"):
        clip = Clip(small_plan(precision=precision), "a red ball", None, 3)
        renderer.render(clip, tmp_path / "f", lambda *_: None)
        used.append(renderer.used.get("precision"))

    assert used == [None, "int8", None]
    assert torch.equal(kept[0], kept[2])
    assert not torch.equal(kept[0], kept[1])


def test_what_the_device_cannot_do_falls_back_with_a_line(
    model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    renderer = Renderer(model)
    with pytest.raises(PrecisionUnusable, match=r"8\.9"):
        lowered(model.transformers["t2v"], "fp8", CPU)

    renderer.render(Clip(small_plan(precision="fp8"), "a red ball", None, 3), tmp_path / "f.npy", lambda *_: None)

    assert "precision not used" in caplog.text
    assert renderer.used["precision"] == "native"


def test_text_encoder_in_eight_bits_says_nearly_the_same(models: Path) -> None:
    pytest.importorskip("torchao")
    native, lower = (
        load_model("tiny-random", models, pick_device("cpu"), "24", text=text) for text in ("auto", "int8")
    )

    kinds = {type(part).__name__ for part in lower.text_encoder.parameters()}
    exact, rounded = (encode_prompt(model, "a red ball", 64) for model in (native, lower))

    assert "Int8Tensor" in kinds
    assert 0 < float((exact - rounded).norm() / exact.norm()) < 0.05


def test_text_encoder_works_where_it_is_told_to(models: Path) -> None:
    model = load_model("tiny-random", models, pick_device("cpu"), "80", text="cpu")

    assert (model.memory.text, model.memory.transformer, model.memory.name) == (Place.CPU, Place.DEVICE, "80")
    assert lower_than(model.memory) == with_text(preset_named("48"), "cpu"), "and stays there"


def test_eight_bit_blocks_attend_by_the_kernel_of_the_plan(model: Model, tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    renderer, calls = Renderer(model), {"exact": 0, "approximate": 0}

    def counted(name: str) -> Kernel:
        def attend(*tensors: torch.Tensor) -> torch.Tensor:
            calls[name] += 1
            return sdpa(*tensors)

        return Kernel(name, attend)

    renderer.tuned.exact, renderer.tuned.approximate = counted("exact"), counted("approximate")
    for is_approximate in (False, True):
        plan = small_plan(precision="int8", approximate_attention=is_approximate)
        renderer.render(Clip(plan, "a red ball", None, 3), tmp_path / "f.npy", lambda *_: None)

    assert calls == {"exact": 20, "approximate": 20}
    assert renderer.used["attention"] == "approximate"
