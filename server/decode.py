"""`python -P -m server.decode`: the sandboxed child that turns any png or jpeg on stdin into a clean PNG on stdout.

Nothing of the input survives but its pixels: no metadata, no second frame, no trailing bytes.
"""

import io
import resource
import sys
import warnings
import zlib

from PIL import Image, ImageOps

MEMORY_BYTES, CPU_SECONDS = 1 << 30, 5
MAX_SIDE, MAX_PIXELS = 8192, 36_000_000
MAX_OUTPUT_BYTES = 4 * MAX_PIXELS
TOO_LARGE, UNUSABLE = 3, 4


def clean(raw: bytes) -> bytes:
    with Image.open(io.BytesIO(raw), formats=["PNG", "JPEG"]) as picture:
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


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_OUTPUT_BYTES, MAX_OUTPUT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Many a phone writes metadata that earns a warning; the picture itself is whole.
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    try:
        cleaned = clean(sys.stdin.buffer.read())
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        sys.exit(TOO_LARGE)
    except Exception:  # whatever a decoder raises: the picture is not usable, and why is nobody's business
        sys.exit(UNUSABLE)
    sys.stdout.buffer.write(cleaned)


if __name__ == "__main__":
    main()
