"""Motion-compensated interpolation at native size: from the checkpoint's rate to exactly the asked one."""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from gpu_worker.finish.frames import Frame, Frames

Flow = NDArray[np.float32]

# Above this mean difference (of 255) two frames are different scenes: blending them would be a ghost.
SCENE_CUT = 60.0
# Forward and backward flow that disagree by more pixels than this mark what is covered or uncovered.
OCCLUSION_PIXELS = 1.5
# Smaller clips are enlarged: the method looks at patches of 8 pixels.
SIDE_FOR_FLOW = 160


def interpolate(frames: NDArray[np.uint8], native_fps: int, fps: int, count: int) -> Frames:
    """Frame k shows the moment k/fps. Flow is computed once for each native pair; memory holds one pair."""
    pair = lru_cache(maxsize=1)(lambda index: _Pair(frames[index], frames[index + 1]))
    last = len(frames) - 1
    for k in range(count):
        at = min(k * native_fps / fps, float(last))
        index = min(int(at), last - 1) if last else 0
        share = at - index
        if share == 0 or not last:
            yield np.asarray(frames[index])
        elif share == 1:
            yield np.asarray(frames[index + 1])
        else:
            yield pair(index).between(share)


class _Pair:
    """Two neighbouring frames and how the pixels move between them."""

    def __init__(self, first: Frame, second: Frame) -> None:
        self._first, self._second = np.asarray(first), np.asarray(second)
        grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (self._first, self._second)]
        self._is_cut = float(np.abs(grey[0].astype(np.int16) - grey[1]).mean()) > SCENE_CUT
        height, width = grey[0].shape
        if self._is_cut:
            return
        self._forward, self._backward = _flow(grey[0], grey[1]), _flow(grey[1], grey[0])
        self._grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
        self._seen_first = _consistent(self._forward, self._backward, self._grid)
        self._seen_second = _consistent(self._backward, self._forward, self._grid)

    def between(self, share: float) -> Frame:
        """The moment `share` of the way from the first to the second."""
        if self._is_cut:
            return self._first if share < 0.5 else self._second
        # The flow at the moment itself is taken from both ends, as it reaches there.
        back = self._grid - share * _carry(self._forward, share, self._grid)
        ahead = self._grid - (1 - share) * _carry(self._backward, 1 - share, self._grid)
        first, second = _sample(self._first, back), _sample(self._second, ahead)
        weight_first = (1 - share) * _sample(self._seen_first, back) + 1e-3
        weight_second = share * _sample(self._seen_second, ahead) + 1e-3
        mixed = (first * weight_first[..., None] + second * weight_second[..., None]) / (weight_first + weight_second)[
            ..., None
        ]
        return mixed.round().clip(0, 255).astype(np.uint8)


def _flow(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Flow:
    """Dense optical flow."""
    height, width = first.shape
    scale = max(1, -(-SIDE_FOR_FLOW // min(height, width)))
    if scale > 1:
        size = (width * scale, height * scale)
        first, second = (cv2.resize(side, size, interpolation=cv2.INTER_CUBIC) for side in (first, second))
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(first, second, None)
    if scale > 1:
        flow = cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA) / scale
    return np.asarray(flow, dtype=np.float32)


def _carry(flow: Flow, share: float, grid: Flow) -> Flow:
    """The flow of the pixels that are at each place after `share` of their way: two fixed-point steps find them."""
    carried = flow
    for _ in range(2):
        carried = _sample(flow, grid - share * carried)
    return carried


def _consistent(there: Flow, back: Flow, grid: Flow) -> NDArray[np.float32]:
    """1 where the way there and back ends at its start, 0 where something was covered."""
    away = np.linalg.norm(there + _sample(back, grid + there), axis=-1)
    seen: NDArray[np.float32] = (away < OCCLUSION_PIXELS).astype(np.float32)
    return np.asarray(cv2.blur(seen, (3, 3)), dtype=np.float32)


def _sample(image: NDArray[np.generic], at: Flow) -> NDArray[np.float32]:
    return np.asarray(cv2.remap(image, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), dtype=np.float32)
