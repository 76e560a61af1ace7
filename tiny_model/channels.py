"""What the channels of a token hold, from the beginning on."""

import math

from tiny_model.codes import ATTRIBUTES, COUNTS
from tiny_model.transformer import CHANNELS, HEAD, HEADS, PATCH

INNER = HEADS * HEAD
PATCHED = CHANNELS * 2 * PATCH * PATCH

# Flags, to whoever reads through a norm: a token of the video, of the caption; made from words alone, or from a picture
# too. The first two hold the loud constants themselves.
VIDEO, TEXT, WORDS, PICTURE = range(4)
ACROSS, DOWN = 4, 5  # two patterns of the noise
SEEN_X, SEEN_Y, SEEN_TIME = 6, 7, 8  # as attention sees a place, crooked
X, Y, TIME = 9, 10, 11  # tokens right of the object's middle and below it; tokens since the middle of its way
ASIDE_X, ASIDE_Y = 12, 13  # where the noise puts the object, -1..1
GROWN, FIRST = 14, 15  # the time, for what grows; whether this is the first moment
NOISY, GIVEN = range(16, 40), range(40, 64)
SAID = range(64, 64 + sum(COUNTS) + 1)
TINT = range(SAID.stop, SAID.stop + CHANNELS)  # the mean colour of a given picture, weaker the longer the clip
VIVID = TINT.stop  # the square of a token's own mean colour in it
FREE = range(VIVID + 1, INNER)

LOUD, LOUDER = 100.0, 100.0
USUAL = math.sqrt((2 * LOUD**2 + 30) / INNER)  # the deviation that the norms divide by


def said(attribute: str) -> int:
    """The channel of an attribute's first value."""
    return SAID.start + sum(COUNTS[: list(ATTRIBUTES).index(attribute)])
