"""What every finishing stage takes and gives: an iterator of frames, uint8 RGB of shape (height, width, 3)."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
Frames = Iterator[Frame]
