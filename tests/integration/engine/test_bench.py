"""The bench builds what it says, runs stock and ours on the same noise, and marks what it did not measure."""

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from gpu_worker.engine.bench.__main__ import main
from gpu_worker.engine.bench.compare import psnr, ssim
from gpu_worker.engine.bench.shapes import SHAPES
from video_jobs.catalogue import load_catalogue

pytestmark = pytest.mark.worker
SMALL = ["--shape", "tiny", "--device", "cpu", "--random-weights", "--size", "64x32", "--frames", "9"]


@pytest.mark.parametrize("name", ["2b", "5b", "1.5-5b"])
def test_published_shapes_are_those_of_the_catalogue(name: str) -> None:
    shape = SHAPES[name]
    native = load_catalogue().checkpoints[shape.checkpoint]

    assert (shape.layers, shape.heads * shape.head_dim, shape.patch_t or 1) == (
        native.layers,
        native.hidden,
        native.patch_t,
    )
    assert shape.size in native.native_sizes
    assert shape.frames in native.frames.values()


@pytest.mark.long
def test_one_run_measures_stock_and_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([*SMALL, "--decode", "--variants", "stock,exact,exact+cache,speed", "--write", str(tmp_path / "table")])

    rows = {row["variant"]: row for row in json.loads((tmp_path / "table.json").read_text())["rows"]}
    assert list(rows) == ["stock", "exact", "exact+cache", "speed"]
    assert rows["stock"]["blocks"] == rows["exact"]["blocks"] == 50 * 2
    assert rows["speed"]["blocks"] == 10 * 2
    assert rows["stock"]["psnr"] == "inf", "the same noise, the same bits"
    assert rows["speed"]["psnr"] < 100
    assert rows["exact+cache"]["used"]["cache"].endswith("of 50 steps")
    assert all(row["step_s"] > 0 and row["tflops"] > 0 and row["peak_gb"] > 0 for row in rows.values())
    assert (tmp_path / "table.md").read_text() == capsys.readouterr().out.removesuffix("\n")


def test_what_is_extrapolated_is_marked_and_compared_with_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    main([*SMALL, "--decode", "--variants", "stock,exact,speed", "--measured-steps", "3", "--json"])

    said = json.loads(capsys.readouterr().out)
    assert [row["steps_measured"] for row in said["rows"]] == [3, 3, 3]
    assert all(row["extrapolated"] and row["psnr"] is None for row in said["rows"])
    assert said["device"].startswith("CPU")
    assert {"python", "torch", "diffusers"} == set(said["versions"])


def test_a_decoder_that_lives_in_main_memory_visits_the_device(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    visitors: list[str] = []

    def noted(module: Any, _device: torch.device) -> Any:
        visitors.append(type(module).__name__)
        return contextlib.nullcontext(module)

    monkeypatch.setattr("gpu_worker.engine.model.visiting", noted)
    main([*SMALL, "--decode", "--variants", "exact", "--memory", "24", "--measured-steps", "1"])

    assert visitors == ["CogVideoXTransformer3DModel"] * 2 + ["AutoencoderKLCogVideoX"]
    assert "exact" in capsys.readouterr().out


@pytest.mark.parametrize("variant", ["fast", "exact+magic"])
def test_unknown_variants_are_refused(variant: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*SMALL, "--variants", variant])
    assert variant in capsys.readouterr().err


def test_likeness_is_full_for_the_same_and_less_for_others() -> None:
    clip = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    noise = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))

    assert (psnr(clip, clip), round(ssim(clip, clip), 6)) == (math.inf, 1.0)
    assert psnr(clip, (clip + 0.1)) == pytest.approx(20, abs=0.01)
    assert ssim(clip, noise) < ssim(clip, 0.9 * clip + 0.1 * noise) < 1


@pytest.mark.long
def test_trained_weights_are_measured_likewise(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = ["--model", "tiny", "--models", str(models), "--measured-steps", "2", "--variants", "stock,exact", "--json"]
    main(["--shape", "built-in", "--device", "cpu", "--frames", "9", *named])

    said = json.loads(capsys.readouterr().out)
    assert said["title"].endswith("50 steps, tiny")
    assert [row["blocks"] for row in said["rows"]] == [2 * 6, 2 * 6]
