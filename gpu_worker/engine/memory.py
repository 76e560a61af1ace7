"""Where the model's parts live for how much device memory, and what a clip will need."""

from dataclasses import dataclass, replace
from enum import StrEnum

GB = 1e9


class Place(StrEnum):
    DEVICE = "device"
    VISIT = "visit"
    """At home in main memory, on the device while it works."""

    STREAM = "stream"
    """Block after block, the next one copied while this one works."""

    CPU = "cpu"
    """Works where it lives."""


@dataclass(frozen=True)
class MemoryPreset:
    name: str
    free_gb: float
    """Chosen at start from this much free memory on."""

    text: Place
    transformer: Place
    vae: Place
    untiled_pixels: int
    """Larger frames are decoded in tiles: their memory grows with the frame, not with the clip."""

    split: bool = False
    """Both branches of guidance one after the other: half the activations."""


PRESETS = (
    MemoryPreset("80", 70, Place.DEVICE, Place.DEVICE, Place.DEVICE, untiled_pixels=600_000),
    MemoryPreset("48", 42, Place.DEVICE, Place.DEVICE, Place.DEVICE, untiled_pixels=0),
    MemoryPreset("24", 21, Place.VISIT, Place.VISIT, Place.VISIT, untiled_pixels=0),
    MemoryPreset("16", 0, Place.CPU, Place.STREAM, Place.VISIT, untiled_pixels=0, split=True),
)


@dataclass(frozen=True)
class Sizes:
    """Bytes of the loaded parts."""

    text: int
    transformers: int
    transformer: int
    """The larger of the two; with only one, the same."""

    block: int
    vae: int


@dataclass(frozen=True)
class ClipSize:
    """What decides the memory of one clip."""

    width: int
    height: int
    num_frames: int
    tokens: int
    hidden: int
    item_bytes: int
    caches: bool = False


# Tensors of one block alive at once, each as large as its input: norms, query, key, value, their turned copies, the
# feed-forward's four-fold middle twice over.
BLOCK_TENSORS = 14
CACHE_TENSORS = 4
# The source of the VAE estimates 17.8 GB for 720x480 in 16 bits, 4.5 GB for its tiles of a quarter.
DECODE_BYTES_PER_PIXEL = 17.8e9 / (720 * 480) / 2
TILE_PIXELS = 720 * 480 / 4
STREAMED_BLOCKS = 3


def preset_named(name: str) -> MemoryPreset:
    return next(preset for preset in PRESETS if preset.name == name)


def choose_preset(wanted: str, free_bytes: float | None, steps_down: int = 0) -> MemoryPreset:
    """By name, or the roomiest that fits what is free; without a device memory of its own everything stays. So many
    steps lower if memory ran out in those above."""
    if wanted != "auto":
        first = preset_named(wanted)
    elif free_bytes is None:
        first = PRESETS[0]
    else:
        first = next(preset for preset in PRESETS if preset.free_gb * GB <= free_bytes)
    return PRESETS[min(PRESETS.index(first) + steps_down, len(PRESETS) - 1)]


def with_text(preset: MemoryPreset, place: str) -> MemoryPreset:
    """The text encoder elsewhere than the preset has it; `auto` and `int8` leave it there."""
    return preset if place in ("auto", "int8") else replace(preset, text=Place(place))


def lower_than(preset: MemoryPreset) -> MemoryPreset | None:
    """The next one; a text encoder that was put on the CPU stays there."""
    names = [known.name for known in PRESETS]
    rest = PRESETS[names.index(preset.name) + 1 :]
    return with_text(rest[0], "cpu" if preset.text is Place.CPU else "auto") if rest else None


def is_tiled(preset: MemoryPreset, width: int, height: int) -> bool:
    return width * height > preset.untiled_pixels


def estimate(sizes: Sizes, clip: ClipSize, preset: MemoryPreset) -> dict[str, float]:
    """Peak bytes of each stage on the device."""
    resident = sum(
        size
        for size, place in (
            (sizes.text, preset.text),
            (sizes.transformers, preset.transformer),
            (sizes.vae, preset.vae),
        )
        if place is Place.DEVICE
    )
    visiting = {Place.VISIT: sizes.transformer, Place.STREAM: STREAMED_BLOCKS * sizes.block}
    return {
        "text": resident + (sizes.text if preset.text is Place.VISIT else 0),
        "denoise": resident + visiting.get(preset.transformer, 0) + _activations(clip, preset),
        "decode": resident + (sizes.vae if preset.vae is Place.VISIT else 0) + _decoding(clip, preset),
    }


def _activations(clip: ClipSize, preset: MemoryPreset) -> float:
    batch = 1 if preset.split else 2
    per_tensor = batch * clip.tokens * clip.hidden * clip.item_bytes
    kept = CACHE_TENSORS * clip.tokens * clip.hidden * clip.item_bytes if clip.caches else 0
    return BLOCK_TENSORS * per_tensor + kept


def _decoding(clip: ClipSize, preset: MemoryPreset) -> float:
    pixels = clip.width * clip.height
    at_once = min(pixels, TILE_PIXELS) if is_tiled(preset, clip.width, clip.height) else pixels
    video = 3 * clip.num_frames * pixels * clip.item_bytes
    # Twice: the chunks and their concatenation.
    return at_once * DECODE_BYTES_PER_PIXEL * clip.item_bytes + 2 * video
