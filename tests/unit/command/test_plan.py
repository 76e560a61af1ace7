"""Capacity: more load, slower cards and longer clips need more, and a measured time goes before the model's."""

import json
import subprocess
import sys

import pytest


def told(*args: str) -> dict[str, object]:
    command = [sys.executable, "-P", "-m", "cogvideox_server", "plan", "--json", *args]
    return dict(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def test_a_measured_time_is_taken_as_it_is() -> None:
    said = told("--videos-per-hour", "36", "--seconds-per-video", "200")

    assert (said["gpus_busy"], said["gpus"], said["videos_per_gpu_hour"]) == (2.0, 3, 18.0)


@pytest.mark.parametrize("more", [["--gpu", "a100"], ["--quality", "quality"], ["--duration", "10"]])
def test_more_work_needs_more_gpus(more: list[str]) -> None:
    load = ["--videos-per-hour", "100"]

    assert float(str(told(*load, *more)["gpus_busy"])) > float(str(told(*load)["gpus_busy"]))


@pytest.mark.parametrize(
    "wrong", [["--gpu", "none"], ["--checkpoint", "none"], ["--model", "none"], ["--size", "large"]]
)
def test_unknown_names_get_one_line(wrong: list[str]) -> None:
    command = [sys.executable, "-P", "-m", "cogvideox_server", "plan", "--videos-per-hour", "1", *wrong]
    said = subprocess.run(command, capture_output=True, text=True)

    assert (said.returncode, said.stdout, said.stderr.count("\n")) == (2, "", 1)
