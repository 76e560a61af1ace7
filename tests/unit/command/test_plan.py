"""Capacity: more load, slower cards and longer clips need more, and a measured time goes before the model's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cogvideox_server.__main__ import build_parser
from cogvideox_server.plan import plan


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


ROOT = Path(__file__).parents[3]
NONSENSE = [
    *(["--gpu", "none"], ["--checkpoint", "none"], ["--model", "none"]),
    *(["--videos-per-hour", load] for load in ("-5", "0", "nan", "inf", "-inf", "1e300", "many")),
    *(["--seconds-per-video", seconds] for seconds in ("-1", "0", "nan", "inf")),
    *(["--size", size] for size in ("large", "0x0", "-1920x1080", "1920", "1000x1000")),
    *(["--fps", fps] for fps in ("0", "-30", "7")),
    *(["--duration", duration] for duration in ("0", "-1", "7")),
    ["--quality", "best"],
    ["--catalogue", "/nowhere/catalogue.toml"],
]


@pytest.mark.parametrize("wrong", NONSENSE, ids=" ".join)
def test_nonsense_gets_one_line(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = plan(build_parser().parse_args(["plan", "--videos-per-hour", "1", *wrong]))
    except SystemExit as left:
        status = left.code
    said = capsys.readouterr()

    assert (status, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith("cogvideox-server plan: ")


def test_a_file_that_is_no_catalogue_gets_one_line() -> None:
    command = [sys.executable, "-P", "-m", "cogvideox_server", "plan", "--videos-per-hour", "1"]
    said = subprocess.run([*command, "--catalogue", str(ROOT / "pyproject.toml")], capture_output=True, text=True)

    assert (said.returncode, said.stdout, said.stderr.count("\n")) == (2, "", 1)
