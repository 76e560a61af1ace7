"""Memory presets: chosen by what is free, estimated before a clip, one lower when that was not enough."""

import copy
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from gpu_worker.engine import visit
from gpu_worker.engine.load import load_model, pick_device
from gpu_worker.engine.memory import GB, PRESETS, ClipSize, Sizes, choose_preset, estimate, lower_than, preset_named
from gpu_worker.engine.model import Model, size_bytes
from gpu_worker.engine.prompts import PromptCache
from gpu_worker.engine.ranks import Ranks
from gpu_worker.engine.render import Clip, Renderer
from gpu_worker.engine.text import encode_prompt
from gpu_worker.engine.tune import Options
from gpu_worker.engine.warm import warm_up
from tests.integration.engine.plans import STEPS, small_plan
from video_jobs.catalogue import load_catalogue
from video_jobs.job import RenderPlan

pytestmark = pytest.mark.worker
CPU = pick_device("cpu")
# CogVideoX1.5-5B and its I2V in bfloat16, with T5-XXL.
LARGE = Sizes(
    text=9_500_000_000, transformers=22_300_000_000, transformer=11_150_000_000, block=255_000_000, vae=430_000_000
)
LONG_CLIP = ClipSize(1360, 768, 81, 45_106, 3072, 2, caches=True)


def render(model: Model, path: Path) -> np.ndarray:
    Renderer(model).render(Clip(small_plan(), "a red ball", None, 3), path, lambda *_: None)
    return np.load(path)


@pytest.mark.parametrize(
    ("free_gb", "name"), [(140, "80"), (79, "80"), (60, "48"), (47, "48"), (23.5, "24"), (15.5, "16"), (8, "16")]
)
def test_preset_is_chosen_by_what_is_free(free_gb: float, name: str) -> None:
    assert choose_preset("auto", free_gb * GB).name == name
    assert choose_preset("24", free_gb * GB).name == "24"
    assert choose_preset("24", free_gb * GB, steps_down=1).name == "16"
    assert choose_preset("24", free_gb * GB, steps_down=9).name == "16"


@pytest.mark.parametrize(("name", "limit_gb"), [("80", 60), ("48", 46), ("24", 23), ("16", 15.5)])
def test_each_preset_holds_the_large_model_and_its_longest_usual_clip(name: str, limit_gb: float) -> None:
    peak = max(estimate(LARGE, LONG_CLIP, preset_named(name)).values())

    assert peak < limit_gb * GB


def test_every_lower_preset_needs_less() -> None:
    peaks = [max(estimate(LARGE, LONG_CLIP, preset).values()) for preset in PRESETS]

    assert peaks == sorted(peaks, reverse=True)
    assert lower_than(PRESETS[-1]) is None


def test_larger_frames_and_longer_clips_need_more() -> None:
    small, large = ClipSize(720, 480, 49, 17_776, 3072, 2), LONG_CLIP
    first, second = (estimate(LARGE, clip, PRESETS[0]) for clip in (small, large))

    assert first["denoise"] < second["denoise"]
    assert first["text"] == second["text"]


@pytest.mark.parametrize("name", ["24", "16"])
def test_visiting_and_streaming_change_no_bit_of_the_latents(
    models: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[torch.Tensor] = []
    monkeypatch.setattr("gpu_worker.engine.render.decode", lambda _m, latents, *_: kept.append(latents) or latents)
    monkeypatch.setattr("gpu_worker.engine.render.write_frames", lambda *_: None)
    clip = Clip(small_plan(), "a red ball", None, 3)
    for memory in ("80", name):
        Renderer(load_model("tiny-random", models, CPU, memory)).render(clip, tmp_path / "f", lambda *_: None)

    # The 16 GB preset splits guidance, and a batch of two is not two batches of one to the last bit.
    assert torch.equal(*kept) if name == "24" else torch.allclose(*kept, atol=1e-4)


def test_streamed_blocks_are_fetched_one_by_one_and_go_home(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model("tiny-random", models, CPU, "16")
    blocks = model.transformers["t2v"].transformer_blocks
    home = [part.data_ptr() for part in blocks.parameters()]
    monkeypatch.setattr(visit, "_on", lambda tensor, _: torch.nn.Parameter(tensor.clone(), requires_grad=False))
    streamed, away = visit.StreamedBlocks(blocks, CPU), []

    for block in streamed:
        away.append([part.data_ptr() for part in block.parameters()] != home[: len(list(block.parameters()))])

    assert (streamed.fetched, away) == (len(blocks), [True] * len(blocks))
    assert [part.data_ptr() for part in blocks.parameters()] == home


def test_streaming_fetches_every_block_for_every_step_and_branch(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[visit.StreamedBlocks] = []

    class Counted(visit.StreamedBlocks):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr("gpu_worker.engine.tune.StreamedBlocks", Counted)
    render(load_model("tiny-random", models, CPU, "16"), tmp_path / "f.npy")

    assert sum(streamed.fetched for streamed in made) == STEPS * 2 * 2, "steps, branches, blocks"


def test_visitors_go_home_also_after_an_early_end(models: Path) -> None:
    model = load_model("tiny-random", models, CPU, "24")
    home = [part.data_ptr() for part in model.vae.parameters()]

    with pytest.raises(RuntimeError, match="early"), model.at_work(model.vae, model.memory.vae):
        raise RuntimeError("early")

    assert [part.data_ptr() for part in model.vae.parameters()] == home


def test_out_of_memory_retries_one_preset_lower(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected, renderer = render(model, tmp_path / "a.npy"), Renderer(model)
    whole, tried = renderer._denoise, []

    def too_large_at_first(*args: Any) -> torch.Tensor:
        tried.append(model.memory.name)
        if len(tried) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(*args)

    monkeypatch.setattr(renderer, "_denoise", too_large_at_first)
    with caplog.at_level(logging.WARNING):
        renderer.render(Clip(small_plan(), "a red ball", None, 3), tmp_path / "b.npy", lambda *_: None)

    assert tried == ["80", "48"]
    assert (renderer.used["memory"], renderer.used["decode"]) == ("48", "vae, tiled")
    assert "out of memory" in caplog.text
    assert np.load(tmp_path / "b.npy").shape == expected.shape


def test_out_of_memory_with_nothing_lower_is_told(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer = Renderer(load_model("tiny-random", models, CPU, "16"))

    def too_large(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(renderer, "_denoise", too_large)
    with pytest.raises(torch.OutOfMemoryError):
        renderer.render(Clip(small_plan(), "a red ball", None, 3), tmp_path / "b.npy", lambda *_: None)


def test_out_of_memory_on_one_of_several_devices_ends_the_attempt(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer, tried = Renderer(model), []
    renderer.tuned.ranks = Ranks(0, 2, 2, None, None, None)

    def too_large(*_: Any) -> torch.Tensor:
        tried.append(model.memory.name)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(renderer, "_denoise", too_large)
    with pytest.raises(torch.OutOfMemoryError):
        renderer.render(Clip(small_plan(), "a red ball", None, 3), tmp_path / "b.npy", lambda *_: None)

    assert tried == ["80"], "the others wait in the middle of a step: a new crew begins again"


def test_a_clip_that_will_not_fit_steps_down_before_it_starts(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, clip = model.sizes(), ClipSize(64, 32, 9, 64 + 16, 64, 4)
    need = max(estimate(sizes, clip, PRESETS[2]).values())
    monkeypatch.setattr("gpu_worker.engine.room.device_bytes", lambda _: need)

    renderer = Renderer(model)
    renderer.render(Clip(small_plan(), "a red ball", None, 3), tmp_path / "f.npy", lambda *_: None)
    assert model.memory.name == "24"

    monkeypatch.setattr("gpu_worker.engine.room.device_bytes", lambda _: 80 * GB)
    renderer.render(Clip(small_plan(), "a red ball", None, 3), tmp_path / "f.npy", lambda *_: None)
    assert model.memory.name == "80", "the next clip has all the room there is"


def test_a_prompt_is_encoded_once(model: Model) -> None:
    calls: list[int] = []
    model.text_encoder.register_forward_pre_hook(lambda *_: calls.append(1))

    first, again = (encode_prompt(model, "a red ball", 64) for _ in range(2))
    encode_prompt(model, "a blue ball", 64)

    assert torch.equal(first, again)
    assert len(calls) == 3, "nothing, red, blue"


def test_kept_prompts_stay_within_their_bound() -> None:
    cache = PromptCache(max_bytes=3 * 4 * 10)
    for word in ("a", "b", "c"):
        cache.keep((word, 1), torch.zeros(10))
    cache.get(("a", 1))
    cache.keep(("d", 1), torch.zeros(10))

    assert cache.get(("b", 1)) is None, "the least used goes"
    assert all(cache.get((word, 1)) is not None for word in ("a", "c", "d"))
    assert cache.size_bytes == 120


def test_warm_up_steps_down_for_a_clip_that_will_not_fit(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    renderer, met = Renderer(model, options=Options(compile=True)), []
    monkeypatch.setattr("gpu_worker.engine.room.device_bytes", lambda _: 100)
    monkeypatch.setattr(
        "gpu_worker.engine.room.estimate",
        lambda _sizes, clip, preset: {"denoise": 0 if preset.name == "16" else clip.num_frames},
    )
    monkeypatch.setattr(
        "gpu_worker.engine.warm.take_step", lambda _r, plan, *_: met.append((plan.num_frames, model.memory.name))
    )

    warm_up(renderer, load_catalogue(), "tiny-random")

    assert (81, "80") in met
    assert (161, "16") in met


def test_a_clip_too_large_for_any_preset_does_not_keep_the_engine_from_starting(
    models: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    renderer = Renderer(load_model("tiny-random", models, CPU, "16"), options=Options(compile=True))

    def too_large(_renderer: Renderer, plan: RenderPlan, *_: Any) -> None:
        if plan.num_frames > 81:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("gpu_worker.engine.warm.take_step", too_large)
    warm_up(renderer, load_catalogue(), "tiny-random")

    assert renderer.tuned.is_compiled, "that was no fault of the compiler"
    assert "not warmed up" in caplog.text


def test_blocks_of_lower_precision_are_where_the_preset_has_the_transformer(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def copied(native: Any, *_: Any) -> Any:
        made.append(model.memory.name)
        return copy.deepcopy(native)

    monkeypatch.setattr("gpu_worker.engine.tune.lowered", copied)
    renderer, clip = Renderer(model), Clip(small_plan(precision="int8"), "a red ball", None, 3)
    alone = model.sizes().transformers
    for name in ("80", "48", "24", "16", "80"):
        renderer._room._roomiest = preset_named(name)
        renderer.render(clip, tmp_path / "f.npy", lambda *_: None)

    assert made == ["80", "24", "80"], "made anew when the transformer's home changes, and only then"
    assert renderer.tuned.sizes().transformers > alone, "and the estimate counts them"


def test_an_eight_bit_tensor_is_as_large_as_its_parts() -> None:
    pytest.importorskip("torchao")
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    linear = torch.nn.Linear(64, 64, bias=False)
    quantize_(linear, Int8WeightOnlyConfig())

    kinds = [type(part) for part in visit.plain_parts(linear.weight)]
    assert set(kinds) == {torch.Tensor}, "what a stream can be told of"
    assert size_bytes(linear) < 64 * 64 * 2
