"""H.264 in MP4: High profile, yuv420p, BT.709, ready to play before it is loaded whole."""

from fractions import Fraction
from pathlib import Path

import av
from av.video.reformatter import ColorRange, Colorspace

from gpu_worker.finish.frames import Frames

# Few lookahead frames keep memory flat at 4K; `veryfast` costs little sight and half the time.
OPTIONS = {"preset": "veryfast", "crf": "18", "profile": "high", "x264-params": "rc-lookahead=10:ref=2"}
BT709 = 1


def encode(frames: Frames, path: Path, width: int, height: int, fps: int, threads: int = 0) -> int:
    """Write the clip; how many frames it has."""
    count = 0
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options=OPTIONS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.thread_count = threads
        context.color_primaries = context.color_trc = context.colorspace = BT709
        context.color_range = ColorRange.MPEG
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
            )
            picture.pts, picture.time_base = count, Fraction(1, fps)
            container.mux(stream.encode(picture))
            count += 1
        container.mux(stream.encode())
    return count
