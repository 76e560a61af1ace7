"""`python -m tiny_model STAGE --build FOLDER`: one stage of making the built-in model, resumed where it stopped."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpu_worker.engine.built_in import SHIPPED
from tiny_model.assemble import assemble
from tiny_model.card import write_card
from tiny_model.loop import in_parallel
from tiny_model.report import report
from tiny_model.train_adapter import train_adapter, write_adapter
from tiny_model.train_text import train_text_encoder
from tiny_model.train_transformer import train_transformer
from tiny_model.train_vae import train_vae

VAE_STEPS, TEXT_STEPS, ADAPTER_STEPS = 1200, 1500, 120
TRANSFORMER_STEPS, FALL_FROM = 2000, 700


def main() -> None:
    asked = _arguments()
    asked.build.mkdir(parents=True, exist_ok=True)
    stages: dict[str, Callable[[argparse.Namespace], None]] = {
        "vae": lambda asked: _train(asked, train_vae, asked.build / "vae.pt", VAE_STEPS),
        "text": lambda asked: train_text_encoder(asked.device, asked.build / "text.pt", TEXT_STEPS),
        "transformer": lambda asked: _train(
            asked, train_transformer, asked.build / "transformer.pt", TRANSFORMER_STEPS, FALL_FROM
        ),
        "adapter": _adapter,
        "assemble": lambda asked: assemble(asked.build, asked.shipped),
        "examine": lambda asked: report(asked.shipped, asked.sheets, asked.questions, asked.workers, asked.device),
        "card": lambda asked: write_card(asked.shipped / "README.md", asked.sheets / "scores.json"),
    }
    for stage in asked.stages or stages:
        print(f"== {stage}", flush=True)
        stages[stage](asked)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tiny_model", description=__doc__)
    parser.add_argument("stages", nargs="*", help="vae text transformer adapter assemble examine card (default: all)")
    parser.add_argument("--build", type=Path, default=Path("build/tiny"), help="checkpoints")
    parser.add_argument("--shipped", type=Path, default=SHIPPED, help="the weights as the package holds them")
    parser.add_argument("--sheets", type=Path, default=Path("docs/tiny-model"), help="sample sheets and scores")
    parser.add_argument(
        "--workers", type=int, default=2, help="processes that share the work; on a GPU one process trains"
    )
    parser.add_argument("--device", default="cpu", help="where torch trains and examines: cpu, cuda")
    parser.add_argument("--questions", type=int, default=104, help="held-out captions in each language")
    return parser.parse_args()


def _train(asked: argparse.Namespace, stage: Callable[..., Any], *args: Any) -> None:
    in_parallel(stage, asked.workers if asked.device == "cpu" else 1, asked.device, *args)


def _adapter(asked: argparse.Namespace) -> None:
    transformer, checkpoint = asked.build / "transformer.pt", asked.build / "adapter.pt"
    if checkpoint.exists() and checkpoint.stat().st_mtime < transformer.stat().st_mtime:
        print("the transformer was trained since: its adapter starts anew", flush=True)
        checkpoint.unlink()
    _train(asked, train_adapter, transformer, checkpoint, ADAPTER_STEPS)
    write_adapter(transformer, checkpoint, asked.shipped / "adapters" / "pastel.safetensors")


if __name__ == "__main__":
    main()
