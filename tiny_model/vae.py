"""The autoencoder: an encoder written down, not learned, and a decoder that learns to sharpen.

A latent is the mean colour of 8x8 pixels in 4 frames. The decoder starts as plain enlargement; only then is it trained.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXResnetBlock3D
from torch import nn

CHANNELS, GROUPS, LATENTS = (16, 16, 24, 32), 4, 3
# Every norm group carries +signal, -signal, +LEVEL, -LEVEL: its mean is then 0 and its variance known,
# and silu(x) - silu(-x) = x keeps the way through linear.
LEVEL = 4.0


@torch.no_grad()
def build_vae(seed: int) -> AutoencoderKLCogVideoX:
    torch.manual_seed(seed)
    vae = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=CHANNELS,
        latent_channels=LATENTS,
        layers_per_block=1,
        norm_num_groups=GROUPS,
        temporal_compression_ratio=4,
        sample_height=96,
        sample_width=96,
        scaling_factor=1.0,
        invert_scale_latents=True,
    )
    for block in _resnets(vae):
        _silence(block.conv2.conv)
    _write_encoder(vae.encoder)
    _write_decoder(vae.decoder)
    return vae


def sharpening_parameters(vae: AutoencoderKLCogVideoX) -> Iterator[tuple[nn.Parameter, float]]:
    """The decoder's weights, each with its share of the learning rate: what carries the colours moves slowly."""
    for name, weight in vae.decoder.named_parameters():
        yield weight, 1.0 if "resnets" in name and "shortcut" not in name else 0.15


def _resnets(module: nn.Module) -> list[CogVideoXResnetBlock3D]:
    return [block for block in module.modules() if isinstance(block, CogVideoXResnetBlock3D)]


def _silence(layer: Any) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def _write_encoder(encoder: Any) -> None:
    _silence(encoder.conv_in.conv)
    for colour in range(LATENTS):
        encoder.conv_in.conv.weight[colour, colour, 2, 1, 1] = 1
    for block in encoder.down_blocks[:-1]:
        for resnet in block.resnets:
            if hasattr(resnet, "conv_shortcut"):
                _silence(resnet.conv_shortcut)
                for colour in range(LATENTS):
                    resnet.conv_shortcut.weight[colour, colour] = 1
        halve = block.downsamplers[0].conv
        _silence(halve)
        for colour in range(LATENTS):
            halve.weight[colour, colour, :2, :2] = 0.25
    _lift(encoder.down_blocks[-1].resnets[0].conv_shortcut, lambda group: group)
    _read_signals(encoder.conv_out.conv, CHANNELS[-1] // GROUPS)
    encoder.conv_out.conv.bias[LATENTS:] = -20.0  # the logarithm of the variance: encoding draws no noise


def _write_decoder(decoder: Any) -> None:
    _lift(decoder.conv_in.conv, lambda group: group)
    width = CHANNELS[-1]
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            if hasattr(resnet, "conv_shortcut"):
                _lift(resnet.conv_shortcut, _first_of(width // GROUPS))
            width = resnet.out_channels
        if block.upsamplers is not None:
            _pass_through(block.upsamplers[0].conv, width // GROUPS)
    norm = decoder.norm_out
    _silence(norm.conv_b.conv)
    _silence(norm.conv_y.conv)
    norm.conv_y.conv.bias.fill_(1.0)
    _read_signals(decoder.conv_out.conv, CHANNELS[0] // GROUPS)
    for resnet in _resnets(decoder):
        _calm(resnet)


def _first_of(size: int) -> Callable[[int], int]:
    return lambda group: group * size


def _lift(layer: Any, source: Callable[[int], int]) -> None:
    """Every group starts with its signal, the signal's negative and the two constants."""
    _silence(layer)
    size = layer.out_channels // GROUPS
    centre = _centre(layer)
    for group in range(GROUPS):
        if group < LATENTS:
            layer.weight[(group * size, source(group), *centre)] = 1
            layer.weight[(group * size + 1, source(group), *centre)] = -1
        layer.bias[group * size + 2] = LEVEL
        layer.bias[group * size + 3] = -LEVEL


def _pass_through(layer: Any, size: int) -> None:
    _lift(layer, _first_of(size))
    for group in range(GROUPS):
        free = [*([0, 1] if group == LATENTS else []), *range(4, size)]
        for channel in (group * size + place for place in free):
            layer.weight[channel, channel, 1, 1] = 1


def _read_signals(layer: Any, size: int) -> None:
    _silence(layer)
    gain = LEVEL * math.sqrt(2 / size)
    for colour in range(LATENTS):
        layer.weight[colour, colour * size, 2, 1, 1] = gain
        layer.weight[colour, colour * size + 1, 2, 1, 1] = -gain


def _calm(resnet: Any) -> None:
    """A learning branch that starts from the signals alone, with a norm that hardly depends on the latents."""
    size = resnet.in_channels // GROUPS
    resnet.conv1.conv.weight.mul_(2.0)
    for group in range(GROUPS):
        resnet.conv1.conv.weight[:, [group * size + 2, group * size + 3]] = 0
    for norm in (resnet.norm1, resnet.norm2):
        norm.conv_y.conv.weight.mul_(0.1)
        norm.conv_y.conv.bias.fill_(1.0)
        norm.conv_b.conv.weight.mul_(0.1)
        norm.conv_b.conv.bias.zero_()


def _centre(layer: Any) -> tuple[int, ...]:
    if isinstance(layer, nn.Conv3d):
        return (layer.kernel_size[0] - 1, layer.kernel_size[1] // 2, layer.kernel_size[2] // 2)
    return (layer.kernel_size[0] // 2, layer.kernel_size[1] // 2)
