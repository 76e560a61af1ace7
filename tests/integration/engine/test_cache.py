"""The step cache: blocks are really skipped, by the threshold, and never where it would harm."""

from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from gpu_worker.engine.attention import FusedAttention, install
from gpu_worker.engine.cache import FirstBlockCache
from gpu_worker.engine.denoise import Latents, Steps
from gpu_worker.engine.model import Model
from gpu_worker.engine.predict import Conditions, Predictor

pytestmark = pytest.mark.worker
STEPS, BLOCKS = 10, 2
EVERYTHING, NOTHING = 1e9, 0.0


class Run:
    """Ten steps on samples that hardly change; blocks counted."""

    def __init__(self, model: Model, threshold: float | None, max_skips: int = 3, split: bool = False) -> None:
        transformer = model.transformers["t2v"]
        self.attended = 0
        install(transformer, FusedAttention(self._attend))
        embeds = torch.randn(2, 64, 32, generator=torch.Generator().manual_seed(1))
        given = Conditions(embeds, None, None, 6.0)
        branches = 2 if split else 1
        self.caches = [] if threshold is None else [FirstBlockCache(threshold, max_skips) for _ in range(branches)]
        predict = Predictor(transformer, given, self.caches, split)
        sample = torch.randn(1, 4, 16, 4, 8, generator=torch.Generator().manual_seed(2))
        self.out, self.per_step = [], []
        with torch.no_grad():
            for step in range(STEPS):
                before = self.attended
                self.out.append(predict(sample * (1 + step / 1000), torch.tensor(900 - step), step == STEPS - 1))
                self.per_step.append(self.attended - before)

    def _attend(self, *tensors: Any) -> torch.Tensor:
        self.attended += 1
        return torch.nn.functional.scaled_dot_product_attention(*tensors)


def test_unchanging_steps_run_only_their_first_block(model: Model) -> None:
    run = Run(model, EVERYTHING)

    assert run.per_step == [2, 2, 1, 1, 1, 2, 1, 1, 1, 2], "full at both ends, and after three skips in a row"
    assert run.caches[0].skipped == 6


def test_threshold_zero_skips_nothing_and_changes_no_bit(model: Model) -> None:
    plain, cached = Run(model, None), Run(model, NOTHING)

    assert cached.attended == plain.attended == STEPS * BLOCKS
    assert all(torch.equal(a, b) for a, b in zip(plain.out, cached.out, strict=True))


def test_skipped_steps_stay_near_the_exact_ones(model: Model) -> None:
    plain, cached = Run(model, None), Run(model, EVERYTHING)

    errors = [float((a - b).norm() / a.norm()) for a, b in zip(plain.out, cached.out, strict=True)]
    assert max(errors) < 0.05
    assert errors[0] == errors[1] == 0.0


def test_split_guidance_gives_the_same_prediction_in_halves(model: Model) -> None:
    together, split = Run(model, None), Run(model, None, split=True)

    assert split.attended == 2 * together.attended, "one call for each branch"
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(together.out, split.out, strict=True))


def test_split_branches_have_caches_of_their_own(model: Model) -> None:
    run = Run(model, EVERYTHING, split=True)

    assert [cache.skipped for cache in run.caches] == [6, 6]
    assert run.attended == 2 * (STEPS * BLOCKS - 6)


def test_a_new_render_or_a_resumed_one_begins_with_full_steps(model: Model) -> None:
    assert Run(model, EVERYTHING).per_step[:2] == [BLOCKS, BLOCKS]
    assert Run(model, EVERYTHING).per_step[:2] == [BLOCKS, BLOCKS]


def denoised(model: Model, threshold: float, resumed_at: int | None = None) -> tuple[torch.Tensor, int]:
    """The latents of a whole schedule, and how many steps were skipped; a resumed clip has caches of its own."""
    transformer, skipped = model.transformers["t2v"], 0
    install(transformer, FusedAttention())
    embeds = torch.randn(2, 64, 32, generator=torch.Generator().manual_seed(1))
    at = Latents(torch.randn(1, 4, 16, 4, 8, generator=torch.Generator().manual_seed(2)))
    steps = Steps(model.scheduler("ddim", "t2v"), 50, torch.Generator().manual_seed(3), torch.device("cpu"))
    for end in [resumed_at, len(steps)] if resumed_at else [len(steps)]:
        cache = FirstBlockCache(threshold, 3)
        predict = Predictor(transformer, Conditions(embeds, None, None, 6.0), [cache])
        with torch.no_grad():
            while at.step < end:
                prediction = predict(at.sample, steps.timesteps[at.step], at.step == len(steps) - 1)
                at = steps.advance(at, prediction)
        skipped += cache.skipped
    return at.sample, skipped


def test_a_resumed_clip_stays_within_what_the_preset_gives_up_anyway(model: Model) -> None:
    """The caches are dropped with the attempt: the first steps after a resume are whole ones."""
    exact, none = denoised(model, 0.0)
    whole, some = denoised(model, 0.3)
    resumed, fewer = denoised(model, 0.3, resumed_at=25)

    given_up = float((whole - exact).norm())
    assert (none, 0 < fewer < some) == (0, True)
    assert 0 < float((resumed - exact).norm()) <= 1.1 * given_up
    assert float((resumed - whole).norm()) <= 2 * given_up


def test_an_exact_clip_resumes_bit_for_bit(model: Model) -> None:
    assert torch.equal(denoised(model, 0.0)[0], denoised(model, 0.0, resumed_at=25)[0])
