"""Seconds as sines and cosines: added to a model's input, or turning its queries and keys.

Seconds are float64 until the start of their window is subtracted: a float32 phase drifts within the first hour. What
streams uses `SecondsRotary`, in which only differences count; `SecondsEmbedding` knows a clip's own clock.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from legato.errors import BadArgument

__all__ = ["SecondsEmbedding", "SecondsRotary", "angular_frequencies", "rotated", "tubelet_seconds"]

FASTEST_FPS = 60.0
LONGEST_CLIP_SECONDS = 8.0

Seconds = Float64[Tensor, "batch time"]


def angular_frequencies(
    pairs: int,
    *,
    fastest_fps: float = FASTEST_FPS,
    longest_seconds: float = LONGEST_CLIP_SECONDS,
    textbook: bool = False,
) -> Float64[Tensor, " pairs"]:
    """Radians per second, fastest first, geometric in the period.

    Periods go from two frames at the fastest rate to twice the longest clip, so that every channel moves within a
    clip. The textbook's 10000^(-k / pairs) (Vaswani et al. 2017) is made for indices; applied to seconds about 70 %
    of its channels stand still over a clip.

    Args:
        pairs: how many.
        fastest_fps: highest frame rate to be told apart.
        longest_seconds: of a clip.
        textbook: the textbook's frequencies instead, for old checkpoints.

    Raises:
        BadArgument: there are no pairs, or the range of periods is empty.
    """
    if pairs < 1 or not 0 < 1 / fastest_fps < longest_seconds:
        raise BadArgument(
            f"{pairs} pairs of channels for clips up to {longest_seconds} s at up to {fastest_fps} fps; expected at "
            "least one pair and a clip longer than a frame"
        )
    if textbook:
        return 10000.0 ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
    shortest, longest = 2 / fastest_fps, 2 * longest_seconds
    periods = shortest * (longest / shortest) ** torch.linspace(0, 1, max(pairs, 2), dtype=torch.float64)[:pairs]
    return 2 * math.pi / periods


def _paired(channels: int, **frequencies: Any) -> Float64[Tensor, " pairs"]:
    """Frequencies for channels in pairs of a sine and a cosine."""
    if channels % 2:
        raise BadArgument(f"{channels} channels; sines and cosines come in pairs: use {channels + 1}")
    return angular_frequencies(channels // 2, **frequencies)


class SecondsEmbedding(nn.Module):
    """Sines and cosines of each frame's seconds: first all sines, then all cosines. It has no parameters.

    Args:
        channels: even.
        fastest_fps: see `angular_frequencies`.
        longest_seconds: see `angular_frequencies`.
        textbook: at seconds 0, 1, 2 ... the textbook's index encoding.

    Raises:
        BadArgument: an odd number of channels.
    """

    omega: Tensor

    def __init__(
        self,
        channels: int,
        *,
        fastest_fps: float = FASTEST_FPS,
        longest_seconds: float = LONGEST_CLIP_SECONDS,
        textbook: bool = False,
    ):
        super().__init__()
        omega = _paired(channels, fastest_fps=fastest_fps, longest_seconds=longest_seconds, textbook=textbook)
        self.register_buffer("omega", omega, persistent=False)

    def forward(self, seconds: Seconds) -> Float[Tensor, "batch time channels"]:
        """Embed times.

        Args:
            seconds: of each frame on the clip's own clock, float64; per sample and per frame.
        """
        phase = seconds[..., None] * self.omega.to(torch.float64)
        return torch.cat([phase.sin(), phase.cos()], -1).float()


@dataclass(frozen=True)
class Turn:
    """Cosines and sines that turn queries and keys, each `(batch, time, head_dim / 2)`, float32."""

    cos: Tensor
    sin: Tensor


class SecondsRotary(nn.Module):
    """Rotary position embedding (Su et al. 2021) in seconds: attention sees differences of times and nothing else.

    Args:
        head_dim: channels of a head, even.
        fastest_fps: see `angular_frequencies`.
        longest_seconds: see `angular_frequencies`.
        textbook: the textbook's frequencies.

    Raises:
        BadArgument: an odd head.
    """

    omega: Tensor

    def __init__(
        self,
        head_dim: int,
        *,
        fastest_fps: float = FASTEST_FPS,
        longest_seconds: float = LONGEST_CLIP_SECONDS,
        textbook: bool = False,
    ):
        super().__init__()
        omega = _paired(head_dim, fastest_fps=fastest_fps, longest_seconds=longest_seconds, textbook=textbook)
        self.register_buffer("omega", omega, persistent=False)

    def forward(self, seconds: Seconds, origin_seconds: Float64[Tensor, "batch"] | None = None) -> Turn:
        """Turns for a window of frames.

        Args:
            seconds: of each frame, float64, at whatever distance from 0.
            origin_seconds: what is subtracted before the cast, the window's first time by default. Queries and keys
                of one attention need the same origin.
        """
        origin = seconds[:, 0] if origin_seconds is None else origin_seconds
        phase = (seconds - origin[:, None])[..., None] * self.omega.to(torch.float64)
        return Turn(phase.cos().float(), phase.sin().float())


def rotated(
    x: Float[Tensor, "batch time *between head_dim"], turn: Turn
) -> Float[Tensor, "batch time *between head_dim"]:
    """Turn queries or keys; channel k is paired with channel k + head_dim / 2.

    Args:
        x: any number of axes between time and channels, such as heads or places.
        turn: of the same frames.
    """
    shape = (*turn.cos.shape[:2], *(1,) * (x.ndim - 3), turn.cos.shape[-1])
    cos, sin = turn.cos.view(shape).to(x.dtype), turn.sin.view(shape).to(x.dtype)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def tubelet_seconds(seconds: Seconds, frames: int) -> Float64[Tensor, "batch tubelets"]:
    """Times of tubelets, the mean of their frames' times.

    Args:
        seconds: of each frame.
        frames: in a tubelet.

    Raises:
        BadArgument: the clip is not made of whole tubelets.
    """
    batch, time = seconds.shape
    if frames < 1 or time % frames:
        lower, upper = time // max(frames, 1) * frames, -(-time // max(frames, 1)) * frames
        raise BadArgument(f"clip has {time} frames; this model takes multiples of {frames}: use {lower} or {upper}")
    return seconds.reshape(batch, -1, frames).mean(-1)
