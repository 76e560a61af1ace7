"""The scores and the sample sheets, as the model card shows them."""

import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from tiny_model.captions import LANGUAGES
from tiny_model.examine import (
    GUIDANCE,
    STEPS,
    Answer,
    Pipelines,
    examine,
    examine_photographs,
    questions,
    shares,
    strip_of,
)
from tiny_model.sheet import write_sheet

SHOWN = 16
THREADS = 2
Load = Callable[[], Pipelines]
_PARTS = tuple(product(("t2v", "i2v", "vague"), LANGUAGES))
UNKNOWN = ("A panda plays guitar in the forest", "一只熊猫坐在竹林里弹吉他", "a city at rush hour", "")


def report(shipped: Path, folder: Path, count: int, workers: int, device: str) -> None:
    """Ask everything, print it, and leave `scores.json` and the sheets in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    scores: dict[str, Any] = {"steps": STEPS, "guidance": GUIDANCE, "captions a language": count}
    with tempfile.TemporaryDirectory() as models, ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        load = partial(Pipelines, shipped, Path(models), device)
        scores["pace"] = pool.submit(_pace, load, device).result()
        parts = pool.map(partial(_part, load, folder, count), *zip(*_PARTS, strict=True))
        pipelines = load()
        scores["photographs"] = _photographs(pipelines, folder)
        _unknown(pipelines, folder)
        scores |= dict(parts)
    text = json.dumps(scores, indent=2, ensure_ascii=False)
    (folder / "scores.json").write_text(text + "\n")
    print(text, flush=True)


def _pace(load: Load, device: str) -> dict[str, Any]:
    """The second of two clips, and the most memory of a process that does nothing else."""
    torch.set_num_threads(THREADS)
    pipelines = load()
    for _ in range(2):
        begun = time.monotonic()
        pipelines.paint("a red circle moves right on a blue background", 96, 96, 81, 0)
    seconds = time.monotonic() - begun
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    most = int(status["VmHWM"].split()[0]) / 1e6 * 1.024
    return {"device": device, "threads": THREADS, "s": round(seconds, 1), "peak host memory, GB": round(most, 2)}


def _part(load: Load, folder: Path, count: int, mode: str, language: str) -> tuple[str, dict[str, Any]]:
    torch.set_num_threads(1)
    asked = questions(language, count if mode == "t2v" else count // 4, is_vague=mode == "vague")
    answers = examine(load(), asked, mode == "i2v", _tell)
    write_sheet([answer.strip for answer in answers[:SHOWN]], folder / f"{mode}-{language}.png")
    return f"{mode} {language}", summary(answers)


def summary(answers: list[Answer]) -> dict[str, Any]:
    """All together, and apart by wording, size and length."""
    groups: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        asked = answer.question
        groups["all"].append(answer)
        groups["paraphrases" if asked.paraphrased else "plain"].append(answer)
        groups[f"{asked.width}x{asked.height}"].append(answer)
        groups[f"{asked.num_frames} frames"].append(answer)
    found: dict[str, Any] = {}
    for name, some in groups.items():
        found[name] = {"clips": len(some)} | {key: round(value, 3) for key, value in shares(some).items()}
    decibels = [answer.first_frame_db for answer in answers if answer.first_frame_db is not None]
    if decibels:
        found["all"]["first frame dB, mean"] = round(statistics.mean(decibels), 1)
        found["all"]["first frame dB, least"] = round(min(decibels), 1)
    return found


def _photographs(pipelines: Pipelines, folder: Path) -> dict[str, Any]:
    found, strips = examine_photographs(pipelines)
    write_sheet(strips, folder / "photographs.png")
    return {
        name: {"first frame dB": round(first, 1), "last frame dB": round(last, 1)}
        for name, (first, last) in found.items()
    }


def _unknown(pipelines: Pipelines, folder: Path) -> None:
    clips = [strip_of(pipelines.paint(caption, 96, 96, 81, place)) for place, caption in enumerate(UNKNOWN)]
    write_sheet(clips, folder / "unknown-words.png", 1)


def _tell(answer: Answer) -> None:
    wrong = [
        f"{name} {getattr(answer.seen, name)} for {value}"
        for name, value in answer.question.wanted.items()
        if name != "size" and getattr(answer.seen, name) != value
    ]
    near = "" if answer.first_frame_db is None else f" {answer.first_frame_db:.1f} dB"
    verdict = "; ".join(wrong) or "right"
    print(f"{answer.question.caption!r}{near}: {verdict}", flush=True)
