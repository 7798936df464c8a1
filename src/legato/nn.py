"""What our own models share: attention, patches, adaptive norm."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from legato.errors import BadArgument

__all__ = [
    "Attention",
    "Block",
    "Mlp",
    "grid_embedding",
    "load_folder",
    "modulated",
    "patched",
    "sinusoids",
    "unpatched",
]

Tokens = Float[Tensor, "batch tokens channels"]
Made = TypeVar("Made", bound=nn.Module)
Turning = Callable[[Tensor], Tensor]
"""Turns queries or keys `(batch, tokens, heads, head_dim)` by their places in time."""


def load_folder(kind: type[Made], folder: Path) -> Made:
    """A module that `save_pretrained` of huggingface_hub's mixin wrote, in full precision, without a word.

    Raises:
        BadArgument: the folder lacks something, or holds another module.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    missing = [name for name in ("config.json", "model.safetensors") if not (folder / name).is_file()]
    if missing:
        raise BadArgument(f"{folder} does not hold a {kind.__name__}: it has no {' and no '.join(missing)}")
    try:
        made = kind(**json.loads((folder / "config.json").read_text()))
        made.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise BadArgument(f"{folder} does not hold a {kind.__name__}: {error}") from error
    return made.eval()


def patched(
    x: Float[Tensor, "batch time channels height width"], patch_px: int
) -> Float[Tensor, "batch time patches values"]:
    """Cut frames into square patches, row by row; a patch's values go channel by channel.

    Raises:
        BadArgument: the frame is not made of whole patches.
    """
    b, t, c, h, w = x.shape
    if h % patch_px or w % patch_px:
        raise BadArgument(f"frames are {w}x{h}; this model takes multiples of {patch_px} in both directions")
    p = patch_px
    x = x.reshape(b, t, c, h // p, p, w // p, p).permute(0, 1, 3, 5, 2, 4, 6)  # (b, t, rows, columns, c, p, p)
    return x.reshape(b, t, (h // p) * (w // p), c * p * p)


def unpatched(
    patches: Float[Tensor, "batch time patches values"], patch_px: int, height: int, width: int
) -> Float[Tensor, "batch time channels {height} {width}"]:
    """The way back from `patched`."""
    b, t, _, values = patches.shape
    p = patch_px
    c = values // (p * p)
    x = patches.reshape(b, t, height // p, width // p, c, p, p).permute(0, 1, 4, 2, 5, 3, 6)
    return x.reshape(b, t, c, height, width)


def sinusoids(values: Float[Tensor, "*shape"], channels: int, *, slowest: float = 1e4) -> Float[Tensor, "*shape c"]:
    """Cosines, then sines, of a number at frequencies from 1 down to 1 / slowest (Vaswani et al. 2017)."""
    half = channels // 2
    powers = torch.arange(half, dtype=torch.float32, device=values.device) / half
    phase = values.float()[..., None] * slowest**-powers
    return torch.cat([phase.cos(), phase.sin()], -1)


def grid_embedding(rows: int, columns: int, channels: int) -> Float[Tensor, "places {channels}"]:
    """Fixed sines and cosines of row and column, periods from 2 to 128 patches; channels a multiple of 4."""
    omega = math.pi * 64 ** -torch.linspace(0, 1, max(channels // 4, 2))[: channels // 4]
    y, x = torch.meshgrid(torch.arange(rows).float(), torch.arange(columns).float(), indexing="ij")
    phases = [v.flatten()[:, None] * omega for v in (y, x)]
    return torch.cat([part for phase in phases for part in (phase.cos(), phase.sin())], -1)


def modulated(
    x: Float[Tensor, "batch time patches channels"],
    shift: Float[Tensor, "batch time channels"],
    scale: Float[Tensor, "batch time channels"],
) -> Float[Tensor, "batch time patches channels"]:
    """Layer norm whose scale, shift and type a condition gives, frame by frame (Peebles and Xie 2023, adaLN)."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6).to(scale.dtype) * (1 + scale[:, :, None]) + shift[:, :, None]


class Mlp(nn.Module):
    """Two linear layers with a squared ReLU between (So et al. 2021), which is cheap on a CPU."""

    def __init__(self, channels: int, ratio: float = 4.0):
        super().__init__()
        hidden = int(channels * ratio)
        self.rise, self.fall = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, x: Float[Tensor, "*places channels"]) -> Float[Tensor, "*places channels"]:
        """The layers' output."""
        return self.fall(F.relu(self.rise(x)).square())


class Attention(nn.Module):
    """Self-attention with normalised queries and keys.

    Args:
        channels: of a token.
        heads: a divisor of the channels.

    Raises:
        BadArgument: the channels do not divide.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        if channels % heads:
            raise BadArgument(f"{channels} channels do not divide into {heads} heads")
        self.heads, self.head_dim = heads, channels // heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.q_norm, self.k_norm = nn.RMSNorm(self.head_dim, eps=1e-6), nn.RMSNorm(self.head_dim, eps=1e-6)

    def forward(self, x: Tokens, turning: Turning | None = None, mask: Tensor | None = None) -> Tokens:
        """Attend.

        Args:
            x: tokens.
            turning: rotary position embedding of queries and keys.
            mask: `bool`, broadcast to (batch, heads, queries, keys); False is not seen.
        """
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, self.head_dim).unbind(2)  # each (b, n, heads, head_dim)
        q, k = (  # autocast gives projections another type than weights have
            F.rms_norm(t, (self.head_dim,), norm.weight.to(t.dtype), norm.eps)
            for t, norm in ((q, self.q_norm), (k, self.k_norm))
        )
        if turning is not None:
            q, k = turning(q), turning(k)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # each (b, heads, n, head_dim)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(seen.transpose(1, 2).reshape(b, n, c))


class Block(nn.Module):
    """A plain transformer block: attention and MLP, each after a layer norm."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.attention, self.mlp = Attention(channels, heads), Mlp(channels)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)

    def forward(self, x: Tokens, mask: Tensor | None = None) -> Tokens:
        """The block's output."""
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.mlp(self.norm2(x))
