"""The language between the two networks: what a caption means, as one vector.

The text encoder learns to say this vector at every token, whatever the wording; the transformer learns to paint it.
So both are trained apart, and a paraphrase means the same as the plain caption, in either language.
"""

import math

import torch

from tiny_model.scenes import COLOURS, MOTIONS, SHAPES, SIZES

WIDTH, TOKENS = 128, 32
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "background": tuple(COLOURS),
    "shape": SHAPES,
    "motion": MOTIONS,
    "size": SIZES,
}
COUNTS = tuple(len(values) + 1 for values in ATTRIBUTES.values())
"""One more than the values of each: the last says that the caption tells nothing of it."""


def codebook() -> torch.Tensor:
    """Orthogonal directions: one for every value of every attribute, and at the end one for the empty caption."""
    rng = torch.Generator().manual_seed(128)
    square, _ = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=rng))
    directions = square[: sum(COUNTS) + 1] * math.sqrt(WIDTH / len(COUNTS))
    directions[-1] *= math.sqrt(len(COUNTS))
    return directions


def encode(meaning: torch.Tensor, book: torch.Tensor) -> torch.Tensor:
    """Vectors of length √WIDTH for (captions, attributes) indices; all -1 is the empty caption."""
    offsets = meaning.new_tensor([sum(COUNTS[:place]) for place in range(len(COUNTS))])
    vectors = book[(meaning.clamp(min=0) + offsets)].sum(1)
    return torch.where((meaning < 0).all(1, keepdim=True), book[-1], vectors)
