"""Compiled blocks are really compiled, once for all shapes, and give what the plain ones give."""

import pytest

pytest.importorskip("torch")

import torch
from torch._dynamo.testing import CompileCounter

from gpu_worker.engine.attention import FusedAttention, install
from gpu_worker.engine.compiled import compile_blocks
from gpu_worker.engine.model import Model
from gpu_worker.engine.predict import Conditions, Predictor
from gpu_worker.engine.render import Renderer
from gpu_worker.engine.tune import Options
from gpu_worker.engine.warm import served_plans, warm_up
from video_jobs.catalogue import load_catalogue

pytestmark = pytest.mark.worker


def predicted(transformer: object, frames: int = 6, width: int = 8) -> torch.Tensor:
    embeds = torch.randn(2, 64, 32, generator=torch.Generator().manual_seed(1))
    sample = torch.randn(1, frames, 16, 4, width, generator=torch.Generator().manual_seed(2))
    tokens = frames // 2 * 2 * (width // 2)
    angles = torch.linspace(0, 3, tokens * 16).view(tokens, 16)
    given = Conditions(embeds, (angles.cos(), angles.sin()), None, 6.0)
    with torch.no_grad():
        return Predictor(transformer, given)(sample, torch.tensor(500), False)


@pytest.mark.long
def test_one_graph_serves_every_block_step_and_shape(model: Model) -> None:
    torch._dynamo.reset()
    transformer, counter = model.transformers["t2v"], CompileCounter()
    install(transformer, FusedAttention())
    compile_blocks(transformer, backend=counter)

    # 24 tokens: a count that is also a width of the model would be taken for one.
    predicted(transformer)
    after_first = counter.frame_count
    for frames, width in ((6, 8), (10, 8), (8, 12), (14, 20)):
        predicted(transformer, frames, width)

    assert (after_first, counter.frame_count) == (1, 1)


@pytest.mark.long
def test_compiled_blocks_give_what_plain_ones_give(model: Model) -> None:
    torch._dynamo.reset()
    transformer = model.transformers["t2v"]
    install(transformer, FusedAttention())
    plain = predicted(transformer)

    compile_blocks(transformer)

    assert torch.allclose(predicted(transformer), plain, atol=1e-4)
    assert all(block._compiled_call_impl is not None for block in transformer.transformer_blocks)


def test_machine_that_cannot_compile_renders_all_the_same(
    model: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    torch._dynamo.reset()

    def no_compiler(*_: object) -> object:
        raise OSError("gcc is not installed")

    monkeypatch.setattr("gpu_worker.engine.tune.compile_blocks", lambda part: compile_blocks(part, no_compiler))
    renderer = Renderer(model, options=Options(compile=True))

    seconds = warm_up(renderer, load_catalogue(), "tiny-random")

    assert not renderer.tuned.is_compiled
    assert "gcc is not installed" in caplog.records[-1].why  # type: ignore[attr-defined]
    assert all(block._compiled_call_impl is None for block in model.transformers["t2v"].transformer_blocks)
    assert seconds["warm-up"] > 0


def test_warm_up_meets_the_ends_of_what_is_served() -> None:
    plans = served_plans(load_catalogue(), "cogvideox-1.5-5b")

    assert {(plan.width * plan.height, plan.num_frames) for plan in plans} == {(768 * 768, 81), (1360 * 768, 161)}
    assert {plan.preset for plan in plans} == {"speed", "quality"}
