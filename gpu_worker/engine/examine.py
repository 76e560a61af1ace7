"""`python -P -m gpu_worker.engine.examine`: what `doctor` must ask torch and the model's files; one JSON line."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from gpu_worker.engine.built_in import BUILT_IN
from gpu_worker.engine.load import find_pipelines, load_folder, pick_device
from gpu_worker.engine.text import alphabet, check_tokenizer, unknown_share
from gpu_worker.weights.folders import damage, read_manifest
from gpu_worker.weights.pull import is_pulled
from video_jobs.catalogue import Catalogue, load_catalogue
from video_jobs.errors import JobError

CHINESE = "一只猫在弹钢琴"


def device(name: str) -> dict[str, Any]:
    picked = pick_device(name)
    if picked.type == "cuda" and not torch.cuda.is_available():
        return {"problems": ["torch finds no CUDA device"]}
    if picked.type == "cuda":
        free, total = torch.cuda.mem_get_info(picked)
        torch.ones(8, device=picked).sum().item()
        named = torch.cuda.get_device_name(picked)
        return {"name": named, "free_gb": round(free / 1e9, 1), "total_gb": round(total / 1e9, 1)}
    return {"name": f"CPU, {torch.get_num_threads()} threads"}


def model(name: str, models: Path, catalogue: Catalogue) -> dict[str, Any]:
    """Its files against their checksums, and whether its tokenizer reads Chinese. Nothing is pulled."""
    if name not in BUILT_IN and not Path(name).is_dir() and not is_pulled(name, models, catalogue):
        return {"problems": [f"{name} is not on this machine yet"]}
    folder = load_folder(name, models, catalogue)
    problems, letters, chinese = [], "", 1.0
    for pipeline in find_pipelines(folder).values():
        known = read_manifest(pipeline)
        problems += list(damage(pipeline, known.files)) if known else []
        tokenizer: Any = AutoTokenizer.from_pretrained(pipeline / "tokenizer")
        check_tokenizer(tokenizer)
        letters, chinese = alphabet(tokenizer), unknown_share(tokenizer, CHINESE)
    return {"folder": str(folder), "problems": problems, "bytes": letters == "*", "unknown_chinese": chinese}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--catalogue", type=Path, help="an operator's catalogue file")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    said: dict[str, Any] = {"torch": torch.__version__}
    looks: dict[str, Callable[[], dict[str, Any]]] = {
        "device": lambda: device(args.device),
        "model": lambda: model(args.model, args.models, load_catalogue(args.catalogue)),
    }
    for name, look in looks.items():
        try:
            said[name] = look()
        except (JobError, RuntimeError, OSError, ValueError) as exc:
            said[name] = {"problems": [str(exc).splitlines()[0]]}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
