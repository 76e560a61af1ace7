"""To exactly the asked size: the ratio is kept by cropping at the centre."""

import cv2
import numpy as np

from gpu_worker.finish.frames import Frame, Frames


def scale(frames: Frames, width: int, height: int) -> Frames:
    for frame in frames:
        cropped = _crop(frame, width / height)
        shrinks = cropped.shape[1] >= width and cropped.shape[0] >= height
        method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        yield np.asarray(cv2.resize(cropped, (width, height), interpolation=method), dtype=np.uint8)


def _crop(frame: Frame, ratio: float) -> Frame:
    height, width = frame.shape[:2]
    if width / height > ratio:
        kept = max(1, round(height * ratio))
        left = (width - kept) // 2
        return frame[:, left : left + kept]
    kept = max(1, round(width / ratio))
    top = (height - kept) // 2
    return frame[top : top + kept]
