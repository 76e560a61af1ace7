"""Compiled blocks are really compiled, once for all shapes, and give what the plain ones give."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from torch._dynamo.testing import CompileCounter

from gpu_worker.engine.attention import FusedAttention, install
from gpu_worker.engine.compiled import compile_blocks
from gpu_worker.engine.model import Model
from gpu_worker.engine.predict import Conditions, Predictor

pytestmark = [
    pytest.mark.worker,
    # The compiler uses old words of its own library.
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]


def predicted(transformer: object, frames: int = 6, width: int = 8) -> torch.Tensor:
    embeds = torch.randn(2, 64, 32, generator=torch.Generator().manual_seed(1))
    sample = torch.randn(1, frames, 16, 4, width, generator=torch.Generator().manual_seed(2))
    tokens = frames // 2 * 2 * (width // 2)
    angles = torch.linspace(0, 3, tokens * 16).view(tokens, 16)
    given = Conditions(embeds, (angles.cos(), angles.sin()), None, 6.0)
    with torch.no_grad():
        return Predictor(transformer, given)(sample, torch.tensor(500), False)


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


def test_compiled_blocks_give_what_plain_ones_give(model: Model, tmp_path: Path) -> None:
    torch._dynamo.reset()
    transformer = model.transformers["t2v"]
    install(transformer, FusedAttention())
    plain = predicted(transformer)

    compile_blocks(transformer)

    assert torch.allclose(predicted(transformer), plain, atol=1e-4)
    assert all(block._compiled_call_impl is not None for block in transformer.transformer_blocks)
