"""Decoding latents piece by piece with a decoder that looks ahead: LTX's, whose convolutions see a frame to come too.

A frame is certain once everything that it depends on is there. Until then what leads to it waits in front of the layer
that lacks something: every convolution keeps the frames that it needs again, and what goes past it waits for what goes
through it. Each layer is computed once for each frame, so this costs no more than decoding all at once; it comes later.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from legato.errors import UnsupportedModel

__all__ = ["check_ltx", "decode_ltx", "ltx_lookahead"]

Inner = Float[Tensor, "batch _ _ _ _"]  # channels, time, rows, columns


class _Piece:
    """What the layers kept of the pieces before, in their order, and what they keep of this one."""

    def __init__(self, kept: list[Tensor] | None) -> None:
        self._kept = None if kept is None else iter(kept)
        self.left: list[Tensor] = []

    def before(self, like: Tensor) -> Tensor:
        """What the layer that asks kept; no frames at the beginning."""
        return like[:, :, :0] if self._kept is None else next(self._kept)

    def keep(self, kept: Tensor) -> None:
        """Keep frames for the same layer and the next piece; a copy, since what they are part of is larger."""
        self.left.append(kept.clone())

    def held(self, x: Inner, count: int) -> Inner:
        """The first so many frames of those that wait and those that come; the others wait."""
        waiting = torch.cat([self.before(x), x], 2)
        self.keep(waiting[:, :, count:])
        return waiting[:, :, :count]

    def without_first(self, x: Inner, count: int) -> Inner:
        """The frames but for so many at the very beginning."""
        begun = self.before(x)
        self.keep(x[:, :, :1] if x.shape[2] else begun)
        return x if begun.shape[2] else x[:, :, count:]


def check_ltx(vae: Any) -> None:
    """Raise `UnsupportedModel` where decoding twice does not give the same frames."""
    if any(vae.config.decoder_inject_noise):
        raise UnsupportedModel(
            "this AutoencoderKLLTXVideo draws noise as it decodes (decoder_inject_noise), so no two decodings agree; "
            "streams decode with one that does not, such as LTX 0.9.0 or 0.9.5"
        )


@torch.no_grad()
def ltx_lookahead(vae: Any) -> int:
    """How many latents have to follow one before all its frames are certain."""

    def certain(count: int) -> int:
        """Frames that are certain after so many latents."""
        for layer in vae.decoder.modules():  # in the order in which they are called, but for shortcuts, which wait
            if _is(layer, "LTXVideoUpsampler3d"):
                count = max(0, (count - _ahead(layer.conv)) * layer.stride[0] - layer.stride[0] + 1)
            elif _is(layer, "LTXVideoResnetBlock3d"):
                count -= _ahead(layer.conv1) + _ahead(layer.conv2)
            elif layer in (vae.decoder.conv_in, vae.decoder.conv_out):
                count -= _ahead(layer)
        return count

    stride = vae.temporal_compression_ratio
    many = 1000
    return many - 1 - (certain(many) - 1) // stride


def decode_ltx(vae: Any, latents: Inner, kept: list[Tensor] | None) -> tuple[Inner, list[Tensor]]:
    """Frames that are certain with these latents, as `AutoencoderKLLTXVideo.decode` makes them, and what is kept.

    A decoder that is told how noisy latents are is told that they are clean.

    Args:
        vae: an `AutoencoderKLLTXVideo`.
        latents: those that follow.
        kept: of the latents before; None at the beginning.
    """
    decoder, piece = vae.decoder, _Piece(kept)
    clean = latents.new_zeros(len(latents))  # times any scale of timesteps
    x = _convolved(decoder.conv_in, latents, piece)
    for block in (decoder.mid_block, *decoder.up_blocks):
        told = _told(block.time_embedder, clean, 4, x)
        if getattr(block, "conv_in", None) is not None:
            x = _residual(block.conv_in, x, told, piece)
        for upsampler in getattr(block, "upsamplers", None) or ():
            x = _upsampled(upsampler, x, piece)
        for resnet in block.resnets:
            x = _residual(resnet, x, told, piece)
    x = _normed(decoder.norm_out, x)
    told = _told(decoder.time_embedder, clean, 2, x)
    if told is not None:
        shift, scale = (told + decoder.scale_shift_table[None, ..., None, None, None]).unbind(1)
        x = x * (1 + scale) + shift
    x = _convolved(decoder.conv_out, decoder.conv_act(x), piece)
    x = x.unflatten(1, (-1, decoder.patch_size_t, decoder.patch_size, decoder.patch_size))
    frames = x.permute(0, 1, 5, 2, 6, 4, 7, 3).flatten(6, 7).flatten(4, 5).flatten(2, 3)  # patches: columns first
    return frames, piece.left


# --- layers


def _convolved(layer: Any, x: Inner, piece: _Piece) -> Inner:
    """Frames that see all that they need; before the first frame that one stands again."""
    length = layer.kernel_size[0]
    if length > 1:
        before = piece.before(x)
        if not before.shape[2]:
            before = x[:, :, :1].repeat(1, 1, length - 1 - _ahead(layer), 1, 1)
        x = torch.cat([before, x], 2)
        piece.keep(x[:, :, -(length - 1) :])
    if x.shape[2] < length:
        return x.new_zeros(len(x), layer.conv.out_channels, 0, *x.shape[3:])
    made: Tensor = layer.conv(x)
    return made


def _residual(block: Any, x: Inner, told: Tensor | None, piece: _Piece) -> Inner:
    inner = x
    shifts = scales = (None, None)
    if told is not None:
        one, two, three, four = (told + block.scale_shift_table[None, ..., None, None, None]).unbind(1)
        shifts, scales = (one, three), (two, four)
    for norm, layer, shift, scale in zip(
        (block.norm1, block.norm2), (block.conv1, block.conv2), shifts, scales, strict=True
    ):
        inner = _normed(norm, inner)
        if shift is not None:
            inner = inner * (1 + scale) + shift
        inner = _convolved(layer, block.nonlinearity(inner), piece)
    past = piece.held(x, inner.shape[2])
    if block.norm3 is not None:
        past = _normed(block.norm3, past)
    if block.conv_shortcut is not None:
        past = _convolved(block.conv_shortcut, past, piece)
    return inner + past


def _upsampled(layer: Any, x: Inner, piece: _Piece) -> Inner:
    inner = _convolved(layer.conv, x, piece)
    past = piece.held(x, inner.shape[2]) if layer.residual else None
    made = _spread(inner, layer.stride)
    if past is not None:
        past = _spread(past, layer.stride)
        made = made + past.repeat(1, made.shape[1] // past.shape[1], 1, 1, 1)
    return piece.without_first(made, layer.stride[0] - 1)


def _spread(x: Inner, stride: tuple[int, int, int]) -> Inner:
    """Channels dealt out over time, rows and columns."""
    parts = x.unflatten(1, (-1, *stride))
    return parts.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)


def _normed(norm: nn.Module, x: Inner) -> Inner:
    made: Tensor = norm(x.movedim(1, -1))
    return made.movedim(-1, 1)


def _told(embedder: Any, timestep: Tensor, parts: int, x: Inner) -> Tensor | None:
    """What layers are told of noise, in so many parts; None where they are told nothing."""
    if embedder is None:
        return None
    made: Tensor = embedder(
        timestep=timestep, resolution=None, aspect_ratio=None, batch_size=len(x), hidden_dtype=x.dtype
    )
    return made.view(len(x), parts, -1, 1, 1, 1)


def _ahead(layer: Any) -> int:
    """How many frames to come a convolution sees."""
    return 0 if layer.is_causal else (layer.kernel_size[0] - 1) // 2


def _is(layer: nn.Module, name: str) -> bool:
    return type(layer).__name__ == name
