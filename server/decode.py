"""`python -P -m server.decode FORMAT…`: the sandboxed child that turns a picture on stdin into a clean PNG on stdout.

Nothing of the input survives but its pixels: no metadata, no second frame, no trailing bytes. Before it reads the first
byte the child gives up what a decoder that was taken over could use: it can open no file and no socket, sees no
network, and has little memory, time and output.
"""

import ctypes
import io
import os
import resource
import sys
import warnings
import zlib
from collections.abc import Sequence

from PIL import Image, ImageOps, JpegImagePlugin, MpoImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

MEMORY_BYTES, CPU_SECONDS = 1 << 30, 10
MAX_SIDE, MAX_PIXELS = 8192, 36_000_000
MAX_OUTPUT_BYTES = 4 * MAX_PIXELS
TOO_LARGE, UNUSABLE = 3, 4
# A file that has to be opened later could not be: the decoders are imported here, and Pillow told so. A JPEG of several
# pictures is read as MPO, its metadata as TIFF.
DECODERS = (PngImagePlugin, JpegImagePlugin, MpoImagePlugin, TiffImagePlugin, WebPImagePlugin)
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x8000000, 0x10000000, 0x40000000


def clean(raw: bytes, formats: Sequence[str] = ("PNG", "JPEG")) -> bytes:
    with Image.open(io.BytesIO(raw), formats=list(formats)) as picture:
        width, height = picture.size
        if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
            sys.exit(TOO_LARGE)
        turned = ImageOps.exif_transpose(picture)
    if turned.mode.startswith("I"):
        # 16 bits a pixel: converting would cut everything above 255 to white.
        turned = turned.point(lambda value: value * (1 / 256)).convert("L")
    if turned.has_transparency_data:
        alpha = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", alpha.size, "white"), alpha)
    plain = Image.new("RGB", turned.size)
    plain.paste(turned.convert("RGB"))
    out = io.BytesIO()
    # Run lengths only: noise of the largest size takes 5 s of CPU otherwise, and 3 this way.
    plain.save(out, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return out.getvalue()


def confine() -> None:
    """Give up everything that decoding does not take; what the kernel does not let us give up is named in the docs."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # Namespaces of its own, without a network. Some container profiles forbid it; the rest holds all the same.
    libc.unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWNS)
    for kind, limit in {
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_CPU: CPU_SECONDS,
        resource.RLIMIT_FSIZE: MAX_OUTPUT_BYTES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,
        # Standard input, output and errors are open already: no file and no socket comes after them.
        resource.RLIMIT_NOFILE: 3,
    }.items():
        resource.setrlimit(kind, (limit, limit))


def main() -> None:
    Image.preinit()
    os.closerange(3, 64)
    confine()
    # Many a phone writes metadata that earns a warning; the picture itself is whole.
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    try:
        cleaned = clean(sys.stdin.buffer.read(), sys.argv[1:])
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        sys.exit(TOO_LARGE)
    except Exception:  # whatever a decoder raises: the picture is not usable, and why is nobody's business
        sys.exit(UNUSABLE)
    sys.stdout.buffer.write(cleaned)


if __name__ == "__main__":
    main()
