"""Our attention is really reached, its kernels are really called, and what does not work is told."""

import logging
import sys
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch.nn.functional import scaled_dot_product_attention

from gpu_worker.engine.attention import FusedAttention, install
from gpu_worker.engine.forward import all_blocks, forward
from gpu_worker.engine.kernels import Kernel, KernelUnusable, check_kernel, choose_kernel, make_kernel, sample_of, sdpa
from gpu_worker.engine.model import Model
from gpu_worker.engine.render import Clip, Renderer
from tests.integration.engine.plans import STEPS, small_plan

pytestmark = pytest.mark.worker
SAMPLE = torch.empty(1, 4, 64, 16)


class Counted:
    """A kernel that counts."""

    def __init__(self, attend: Any = sdpa) -> None:
        self.calls, self._attend = 0, attend

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self._attend(*tensors)


def test_every_attention_of_a_render_reaches_the_chosen_kernel(model: Model, tmp_path: Any) -> None:
    renderer, counted = Renderer(model), Counted()
    renderer.tuned.exact = Kernel("counted", counted)

    renderer.render(Clip(small_plan(), "a red ball", None, 3), tmp_path / "f.npy", lambda *_: None)

    assert counted.calls == STEPS * len(model.transformers["t2v"].transformer_blocks)
    assert renderer.used["attention"] == "counted"


@torch.no_grad()
def test_fused_projection_and_our_forward_give_the_stock_bits(model: Model) -> None:
    transformer, time = model.transformers["i2v"], torch.tensor(500)
    sample, embeds = torch.randn(2, 4, 32, 4, 8), torch.randn(2, 64, 32)
    positions = (torch.randn(16, 16), torch.randn(16, 16))
    stock = transformer(sample, embeds, time.expand(2), ofs=torch.full((1,), 2.0), image_rotary_emb=positions)
    weights = sum(part.numel() for part in transformer.parameters())

    install(transformer, FusedAttention())
    ours = forward(transformer, transformer.transformer_blocks, sample, embeds, time, positions, all_blocks)

    assert torch.equal(ours, stock.sample)
    assert not hasattr(transformer.transformer_blocks[0].attn1, "to_q")
    assert sum(part.numel() for part in transformer.parameters()) == weights


def test_installing_twice_changes_nothing(model: Model) -> None:
    transformer = model.transformers["t2v"]
    install(transformer, FusedAttention())
    before = transformer.transformer_blocks[0].attn1.to_qkv.weight.clone()

    install(transformer, FusedAttention())

    assert torch.equal(transformer.transformer_blocks[0].attn1.to_qkv.weight, before)


# Flex is compiled, and the compiler uses old words of its own library.
@pytest.mark.parametrize("name", ["sdpa", "flash", "math", "flex"])
def test_kernels_of_pytorch_are_right_on_a_cpu(name: str) -> None:
    check_kernel(make_kernel(name), SAMPLE)


def test_named_kernel_is_taken(model: Model) -> None:
    sample = sample_of(model.transformers["t2v"], 100, torch.device("cpu"))

    assert choose_kernel(sample, "math").name == "math"
    assert sample.shape == (1, 4, 100, 16)


@pytest.mark.parametrize(("name", "why"), [("flash3", "not installed"), ("sage", "not installed"), ("cudnn", "")])
def test_missing_kernel_falls_back_with_a_line(name: str, why: str, caplog: pytest.LogCaptureFixture) -> None:
    chosen = choose_kernel(SAMPLE, name, may_approximate=True)

    assert chosen.name == "sdpa"
    (line,) = [line for line in caplog.records if line.levelno == logging.WARNING]
    assert line.kernel == name  # type: ignore[attr-defined]
    assert why in line.why  # type: ignore[attr-defined]


def sage_that(monkeypatch: pytest.MonkeyPatch, answer: Any) -> Counted:
    module, counted = ModuleType("sageattention"), Counted(answer)

    def sageattn(query: Any, key: Any, value: Any, tensor_layout: str, is_causal: bool) -> Any:
        assert (tensor_layout, is_causal) == ("HND", False)
        return counted(query, key, value)

    module.sageattn = sageattn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sageattention", module)
    return counted


def test_wrong_kernel_falls_back_with_a_line(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    sage_that(monkeypatch, lambda query, key, value: value)

    assert choose_kernel(SAMPLE, "sage", may_approximate=True).name == "sdpa"
    assert "wrong by" in caplog.records[0].why  # type: ignore[attr-defined]


def test_approximate_kernel_serves_only_presets_that_allow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = sage_that(monkeypatch, scaled_dot_product_attention)

    assert choose_kernel(SAMPLE, "sage").name == "sdpa"
    assert counted.calls == 0
    assert choose_kernel(SAMPLE, "sage", may_approximate=True).name == "sage"
    assert counted.calls == 1


def test_flash_attention_3_gets_its_own_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("flash_attn_interface")

    def flash_attn_func(*tensors: torch.Tensor) -> tuple[torch.Tensor, None]:
        return scaled_dot_product_attention(*(part.transpose(1, 2) for part in tensors)).transpose(1, 2), None

    module.flash_attn_func = flash_attn_func  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flash_attn_interface", module)

    assert choose_kernel(SAMPLE, "flash3").name == "flash3"


def test_kernel_that_raises_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: torch.Tensor) -> torch.Tensor:
        raise ValueError("head_dim 16 is not supported")

    sage_that(monkeypatch, refuse)
    with pytest.raises(KernelUnusable, match="head_dim 16"):
        check_kernel(make_kernel("sage"), SAMPLE)


def test_of_several_right_kernels_the_fastest_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpu_worker.engine.kernels.TRIED", {"cpu": ("sdpa", "math", "sage")})
    seconds = {"sdpa": 2.0, "math": 1.0}
    monkeypatch.setattr("gpu_worker.engine.kernels._seconds", lambda kernel, _: seconds[kernel.name])

    assert choose_kernel(SAMPLE).name == "math"
