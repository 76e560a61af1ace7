"""`python -m tiny_model STAGE --build FOLDER`: one stage of making the built-in model, resumed where it stopped."""

import argparse
from collections.abc import Callable
from pathlib import Path

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
        "vae": lambda asked: in_parallel(train_vae, asked.workers, asked.build / "vae.pt", VAE_STEPS),
        "text": lambda asked: train_text_encoder(asked.build / "text.pt", TEXT_STEPS),
        "transformer": _transformer,
        "adapter": _adapter,
        "assemble": lambda asked: assemble(asked.build, asked.shipped),
        "examine": lambda asked: report(asked.shipped, asked.sheets, asked.questions, asked.workers),
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
    parser.add_argument("--workers", type=int, default=2, help="processes that share the work")
    parser.add_argument("--questions", type=int, default=104, help="held-out captions in each language")
    return parser.parse_args()


def _transformer(asked: argparse.Namespace) -> None:
    checkpoint = asked.build / "transformer.pt"
    in_parallel(train_transformer, asked.workers, checkpoint, TRANSFORMER_STEPS, FALL_FROM)


def _adapter(asked: argparse.Namespace) -> None:
    transformer, checkpoint = asked.build / "transformer.pt", asked.build / "adapter.pt"
    in_parallel(train_adapter, asked.workers, transformer, checkpoint, ADAPTER_STEPS)
    write_adapter(transformer, checkpoint, asked.shipped / "adapters" / "pastel.safetensors")


if __name__ == "__main__":
    main()
