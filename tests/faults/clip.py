"""A small valid MP4 that says whose it is: one clip, encoded once, and a box at its end with job, token and trace."""

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOX = struct.Struct(">I4s")
MARK = b"free"
STEPS, LONG_STEPS = 5, 100


def make_clip(path: Path) -> None:
    """Eight grey frames of H.264."""
    import av
    import numpy as np

    with av.open(str(path), "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for shade in range(8):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 30 * shade, np.uint8), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


@dataclass(frozen=True)
class Work:
    """A stand-in's half-done work: the trace is what only these steps, in this order, each once, lead to."""

    job_id: str
    step: int = 0
    trace: str = ""

    def next(self) -> "Work":
        taken = f"{self.job_id} {self.step} {self.trace}"
        return Work(self.job_id, self.step + 1, hashlib.sha256(taken.encode()).hexdigest()[:16])


def steps_of(prompt: str) -> int:
    return LONG_STEPS if prompt.startswith("long") else STEPS


def whole_work(job_id: str, prompt: str) -> str:
    """The trace of an uninterrupted run."""
    work = Work(job_id)
    while work.step < steps_of(prompt):
        work = work.next()
    return work.trace


def signed(clip: bytes, job_id: str, token: str, trace: str) -> bytes:
    body = json.dumps({"job_id": job_id, "token": token, "trace": trace}).encode()
    return clip + BOX.pack(BOX.size + len(body), MARK) + body


def boxes(video: bytes) -> list[tuple[bytes, bytes]]:
    """The file's boxes; ValueError if they do not add up to the file."""
    found, at = [], 0
    while at < len(video):
        size, kind = BOX.unpack_from(video, at)
        if size < BOX.size or at + size > len(video):
            raise ValueError(f"a box of {size} bytes at {at} of {len(video)}")
        found.append((kind, video[at + BOX.size : at + size]))
        at += size
    return found


def owner(video: bytes) -> dict[str, Any]:
    """Whose clip it is; ValueError unless it is whole."""
    found = boxes(video)
    if not {b"ftyp", b"moov", b"mdat"} <= {kind for kind, _ in found} or found[-1][0] != MARK:
        raise ValueError("not a whole clip")
    return dict(json.loads(found[-1][1]))


def frames_in(path: Path) -> int:
    import av

    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))
