"""LoRA adapters: swapped without a reload, equal to weights merged by hand, taken out to the last bit."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import save_file

from gpu_worker.engine.adapters import Adapters, read_adapter
from gpu_worker.engine.attention import FusedAttention, install
from gpu_worker.engine.model import Model
from gpu_worker.engine.process import Child
from gpu_worker.engine.protocol import Render
from gpu_worker.engine.render import Clip, Renderer
from tests.integration.engine.plans import engine_command, small_plan
from video_jobs.errors import ModelUnavailable
from video_jobs.job import RenderPlan

pytestmark = pytest.mark.worker
CPU = torch.device("cpu")
HIDDEN, RANK = 64, 4
TARGETS = ("attn1.to_q", "attn1.to_v", "attn1.to_out.0")


def adapter_file(
    folder: Path, seed: int = 1, style: str = "A", words: dict[str, str] | None = None
) -> tuple[Path, str]:
    down, up = {"A": ("lora_A", "lora_B"), "down": ("lora_down", "lora_up"), "dot": ("lora.down", "lora.up")}[style]
    draw = torch.Generator().manual_seed(seed)
    parts = {}
    for target in TARGETS:
        name = f"transformer.transformer_blocks.1.{target}"
        parts[f"{name}.{down}.weight"] = torch.randn(RANK, HIDDEN, generator=draw)
        parts[f"{name}.{up}.weight"] = torch.randn(HIDDEN, RANK, generator=draw)
    path = folder / f"{seed}-{style}.safetensors"
    save_file(parts, path, metadata=words)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def merged_by_hand(transformer: Any, path: Path, scale: float) -> None:
    """Into the stock projections, before they are fused."""
    from safetensors.torch import load_file

    parts = load_file(path)
    for target in TARGETS:
        name = f"transformer.transformer_blocks.1.{target}"
        weight = transformer.get_submodule(name.removeprefix("transformer.")).weight.data
        weight += scale * (parts[f"{name}.lora_B.weight"] @ parts[f"{name}.lora_A.weight"])


def weights(transformer: Any) -> dict[str, torch.Tensor]:
    return {name: part.clone() for name, part in transformer.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(part, other[name]) for name, part in one.items())


@pytest.mark.parametrize("style", ["A", "down", "dot"])
def test_an_adapter_is_what_merging_by_hand_gives(model: Model, tmp_path: Path, style: str) -> None:
    import copy

    path, sha256 = adapter_file(tmp_path, style=style)
    reference, _ = adapter_file(tmp_path, style="A")
    by_hand = copy.deepcopy(model.transformers["t2v"])
    merged_by_hand(by_hand, reference, 0.8)
    for transformer in (by_hand, model.transformers["t2v"]):
        install(transformer, FusedAttention())

    Adapters(model.transformers["t2v"], CPU).hold(sha256, path, 0.8)

    ours, expected = weights(model.transformers["t2v"]), weights(by_hand)
    assert all(torch.allclose(part, expected[name], atol=1e-5) for name, part in ours.items())


def test_taking_it_out_gives_back_every_bit(model: Model, tmp_path: Path) -> None:
    transformer = model.transformers["t2v"]
    install(transformer, FusedAttention())
    before, adapters = weights(transformer), Adapters(transformer, CPU)
    pointers = [part.data_ptr() for part in transformer.parameters()]

    for seed in (1, 2):
        path, sha256 = adapter_file(tmp_path, seed)
        assert adapters.hold(sha256, path, 1.0)
        assert not same(weights(transformer), before)
    adapters.hold("", None, 1.0)

    assert same(weights(transformer), before)
    assert [part.data_ptr() for part in transformer.parameters()] == pointers, "swapped in place, nothing reloaded"


def test_the_same_adapter_again_costs_nothing(model: Model, tmp_path: Path) -> None:
    install(model.transformers["t2v"], FusedAttention())
    path, sha256 = adapter_file(tmp_path)
    adapters = Adapters(model.transformers["t2v"], CPU)

    assert [adapters.hold(sha256, path, 1.0) for _ in range(3)] == [True, False, False]
    assert adapters.swaps == 1


def test_scale_of_the_training_is_read_from_its_own_note(tmp_path: Path) -> None:
    note = {"lora_adapter_metadata": json.dumps({"transformer.lora_alpha": 2 * RANK, "transformer.r": RANK})}
    path, sha256 = adapter_file(tmp_path, words=note)

    assert {patch.scale for patch in read_adapter(path, sha256, 0.5)} == {1.0}


def test_a_rank_stabilised_adapter_is_as_strong_as_it_was_trained(tmp_path: Path) -> None:
    said = {"transformer.lora_alpha": 2 * RANK, "transformer.use_rslora": True}
    path, sha256 = adapter_file(tmp_path, words={"lora_adapter_metadata": json.dumps(said)})

    assert {patch.scale for patch in read_adapter(path, sha256, 1.0)} == {2 * RANK / RANK**0.5}


@pytest.mark.parametrize("note", ['{"transformer.alpha_pattern": {"to_q": 8}}', '{"use_dora": true}', "{not JSON", "3"])
def test_what_an_adapter_asks_for_and_we_cannot_do_is_refused(tmp_path: Path, note: str) -> None:
    path, sha256 = adapter_file(tmp_path, words={"lora_adapter_metadata": note})

    with pytest.raises(ModelUnavailable):
        read_adapter(path, sha256, 1.0)


def test_clips_change_with_the_adapter_and_back(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, sha256 = adapter_file(tmp_path)
    kept: list[torch.Tensor] = []
    monkeypatch.setattr("gpu_worker.engine.render.write_frames", lambda frames, _: kept.append(frames))
    renderer = Renderer(model)
    with_it = small_plan(adapter="cogvideox-2:interior", adapter_sha256=sha256)
    for plan in (small_plan(), with_it, with_it, small_plan()):
        renderer.render(Clip(plan, "a red ball", None, 3, path), tmp_path / "f", lambda *_: None)

    assert torch.equal(kept[0], kept[3])
    assert torch.equal(kept[1], kept[2])
    assert not torch.equal(kept[0], kept[1])
    assert renderer.tuned._adapters["t2v"].swaps == 2


@pytest.mark.parametrize("spoil", ["absent", "other", "pickle", "foreign", "misfit"])
def test_what_is_not_the_named_adapter_is_refused(model: Model, tmp_path: Path, spoil: str) -> None:
    install(model.transformers["t2v"], FusedAttention())
    path, sha256 = adapter_file(tmp_path)
    before = weights(model.transformers["t2v"])
    if spoil == "absent":
        path.unlink()
    elif spoil == "other":
        sha256 = "0" * 64
    elif spoil == "pickle":
        torch.save({"a": torch.zeros(1)}, path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    else:
        name = "lora_te_x.weight" if spoil == "foreign" else "transformer_blocks.1.attn1.to_q.lora_A.weight"
        up = {"transformer_blocks.1.attn1.to_q.lora_B.weight": torch.zeros(3, 3)} if spoil == "misfit" else {}
        save_file({name: torch.zeros(3, 3)} | up, path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()

    with pytest.raises(ModelUnavailable):
        Adapters(model.transformers["t2v"], CPU).hold(sha256, path, 1.0)

    assert same(weights(model.transformers["t2v"]), before)


CATALOGUE = """
[models."cogvideox-2:interior"]
like = "cogvideox-2"
lora = {{ checkpoint = "tiny-random", file = "{file}", sha256 = "{sha256}" }}
"""


async def test_the_engine_serves_an_adapter_of_the_operators_catalogue(models: Path, tmp_path: Path) -> None:
    path, sha256 = adapter_file(tmp_path)
    own = tmp_path / "own.toml"
    own.write_text(CATALOGUE.format(file=path.name, sha256=sha256))
    engine, clips = Child("engine", engine_command(models, "--catalogue", str(own))), []

    def job(token: str, plan: RenderPlan) -> Render:
        fields = {"job_id": "7", "token": token, "prompt": "a red ball", "plan": plan, "seed": 3}
        return Render.model_validate(fields | {"frames_path": str(tmp_path / "frames.npy")})

    try:
        for token, adapter in (("1:a", ""), ("2:b", "cogvideox-2:interior"), ("3:c", "")):
            plan = small_plan(adapter=adapter, adapter_sha256=sha256 if adapter else "")
            await engine.run(job(token, plan), lambda: 600.0, lambda _: None)
            clips.append((tmp_path / "frames.npy").read_bytes())
        ready = engine.ready
    finally:
        await engine.kill()

    assert clips[0] == clips[2] != clips[1]
    assert ready is not None
    assert {"imports", "load", "kernels", "warm-up"} == ready.start_seconds.keys()
