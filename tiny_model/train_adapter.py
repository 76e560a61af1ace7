"""Stage four: an adapter (LoRA) that paints the same world in pastel colours; it fits the learned blocks of both."""

from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXTransformer3DModel
from safetensors.torch import save_file
from torch import nn

from tiny_model.assemble import load_transformer
from tiny_model.codes import codebook
from tiny_model.draw import PALETTE
from tiny_model.loop import Schedule, load_average, train
from tiny_model.scheduler import SCHEDULER
from tiny_model.train_transformer import draw_batch, prediction_loss
from tiny_model.written import WRITTEN

RANK, RATE = 8, 2e-3
FIRST_STEP = 1_000_000  # batches that the transformer has not seen
_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2")
PASTEL = PALETTE + 0.5 * (torch.ones(3) - PALETTE)


class LowRank(nn.Module):
    """A layer and what is added to it."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.lora_A = nn.Linear(layer.in_features, RANK, bias=False)
        self.lora_B = nn.Linear(RANK, layer.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = self.layer(given) + self.lora_B(self.lora_A(given))
        return added


def train_adapter(device: str, transformer: Path, checkpoint: Path, steps: int) -> None:
    model = with_adapter(load_transformer(transformer)).to(device)
    scheduler = CogVideoXDDIMScheduler(**SCHEDULER)
    book = codebook()
    optimizer = torch.optim.AdamW(adapter_weights(model), lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)

    def loss(step: int) -> torch.Tensor:
        return prediction_loss(model, scheduler, draw_batch(FIRST_STEP + step, book, PASTEL))

    train(model, [optimizer], loss, Schedule(steps, fall_from=steps // 2, warmup=10, average=0.98), checkpoint)


def with_adapter(model: CogVideoXTransformer3DModel) -> CogVideoXTransformer3DModel:
    """The same model, frozen, with a fresh adapter that changes nothing yet."""
    torch.manual_seed(4)
    model.requires_grad_(False)
    for block in list(model.transformer_blocks)[WRITTEN:]:
        for name, layer in list(block.named_modules()):
            if name.endswith(_TARGETS):
                parent, _, last = name.rpartition(".")
                setattr(block.get_submodule(parent), last, LowRank(layer))
    return model


def adapter_weights(model: nn.Module) -> list[nn.Parameter]:
    return [weight for weight in model.parameters() if weight.requires_grad]


def write_adapter(transformer: Path, checkpoint: Path, file: Path) -> None:
    """As diffusers' `load_lora_weights` reads it."""
    model = with_adapter(load_transformer(transformer))
    load_average(model, adapter_weights(model), checkpoint)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(dict(_named(model)), file)


def _named(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            yield f"transformer.{name}", weight.detach().half().contiguous()
