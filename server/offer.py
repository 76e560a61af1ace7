"""What this deployment offers of each model code: the catalogue's values, less what its hardware cannot do."""

import math
from collections.abc import Callable

from server.settings import GatewaySettings
from video_jobs.catalogue import Catalogue, ModelCode, parse_size
from video_jobs.job import Frozen, ImageRef

SHORT_SIDE, MAX_LONG_SIDE = 1080, 3840


class OfferEmpty(Exception):
    """The settings leave a model code without any size or length."""


class Offer(Frozen):
    """One model code: the values that are allowed here, and those that stand where a caller gives none."""

    sizes: tuple[str, ...]
    default_size: str
    max_pixels: int
    durations: tuple[int, ...]
    fps: tuple[int, ...]
    ignores: tuple[str, ...]
    audio: bool
    images: bool

    def size_for(self, asked: str | None, image: ImageRef | None) -> tuple[int, int]:
        if asked and "size" not in self.ignores:
            return parse_size(asked)
        return image_size(image, self.max_pixels) if image else parse_size(self.default_size)


def image_size(image: ImageRef, max_pixels: int) -> tuple[int, int]:
    """Short side 1080, the long side by the image's ratio, even numbers; smaller where the operator says so."""
    scale = SHORT_SIDE / min(image.width, image.height)
    width, height = (min(MAX_LONG_SIDE, side * scale) for side in (image.width, image.height))
    shrink = min(1.0, math.sqrt(max_pixels / (width * height)))
    nearest = _even(width * shrink, round), _even(height * shrink, round)
    if nearest[0] * nearest[1] <= max_pixels:
        return nearest
    return _even(width * shrink, math.floor), _even(height * shrink, math.floor)


def offers(catalogue: Catalogue, settings: GatewaySettings) -> dict[str, Offer]:
    """Of the codes that the deployment's checkpoint can serve."""
    return {
        name: _offer(name, code, catalogue, settings)
        for name, code in catalogue.models.items()
        if catalogue.can_serve(code, settings.checkpoint)
    }


def _offer(name: str, code: ModelCode, catalogue: Catalogue, settings: GatewaySettings) -> Offer:
    most = _pixels(settings.max_size)
    sizes = tuple(size for size in code.sizes if _pixels(size) <= most)
    lengths = catalogue.durations(code, settings.checkpoint)
    durations = tuple(seconds for seconds in lengths if seconds <= settings.max_duration)
    if not sizes or not durations:
        raise OfferEmpty(f"{name}: nothing is left of its sizes {code.sizes} and lengths {lengths}")
    return Offer(
        sizes=sizes,
        default_size=code.default_size if code.default_size in sizes else max(sizes, key=_pixels),
        max_pixels=most,
        durations=durations,
        fps=code.fps,
        ignores=code.ignores,
        audio=settings.offer_audio,
        images=catalogue.checkpoints[settings.checkpoint].image,
    )


def _pixels(size: str) -> int:
    width, height = parse_size(size)
    return width * height


def _even(side: float, rounded: Callable[[float], int]) -> int:
    return max(2, 2 * rounded(side / 2))
