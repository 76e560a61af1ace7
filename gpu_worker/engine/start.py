"""What denoising starts from: noise, and for image to video the latents of the first frame."""

from pathlib import Path

import torch
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor
from PIL import Image

from gpu_worker.engine.geometry import Geometry
from gpu_worker.engine.model import Model
from video_jobs.errors import ImageUnreadable


def read_first_frame(path: Path, shape: Geometry) -> Image.Image:
    """The picture, scaled to cover the clip and cropped at the centre: stretching would bend faces."""
    try:
        with Image.open(path) as picture:
            return _cover(picture.convert("RGB"), shape.width, shape.height)
    except OSError as exc:
        raise ImageUnreadable(str(exc)) from exc


def _cover(picture: Image.Image, width: int, height: int) -> Image.Image:
    scale = max(width / picture.width, height / picture.height)
    w, h = width / scale, height / scale
    left, top = (picture.width - w) / 2, (picture.height - h) / 2
    return picture.resize((width, height), Image.Resampling.LANCZOS, box=(left, top, left + w, top + h))


@torch.no_grad()
def encode_first_frame(
    model: Model, picture: Image.Image, shape: Geometry, generator: torch.Generator, dtype: torch.dtype
) -> torch.Tensor:
    """Image latents, zero after the first frame. The posterior is sampled before the noise, as in stock."""
    processor = VideoProcessor(vae_scale_factor=shape.stride)
    pixels = processor.preprocess(picture, height=shape.height, width=shape.width).to(model.device, dtype=dtype)
    with model.at_work(model.vae, model.memory.vae) as vae:
        first = vae.encode(pixels.unsqueeze(2)).latent_dist.sample(generator)
    first = first.to(dtype).permute(0, 2, 1, 3, 4)
    first = model.image_scale * first
    rest = torch.zeros((1, shape.latent_frames - 1, *shape.latent_shape[2:]), device=model.device, dtype=dtype)
    return torch.cat([first, rest], dim=1)


def draw_noise(shape: Geometry, generator: torch.Generator, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    noise: torch.Tensor = randn_tensor(shape.latent_shape, generator=generator, device=device, dtype=dtype)
    return noise
