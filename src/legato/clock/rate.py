"""The frame interval as a condition: what rotary seconds alone cannot say where there is one temporal token."""

import math

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn

from legato.errors import BadArgument, check_share

__all__ = ["RateEmbedding", "frame_intervals"]

SLOWEST_SECONDS, FASTEST_SECONDS = 1.0, 1 / 120


def frame_intervals(seconds: Float64[Tensor, "batch time"]) -> Float64[Tensor, "batch time"]:
    """How long each frame stands until the next; the last one's interval is that of the frame before it.

    A clip of T frames spans T - 1 intervals.

    Raises:
        BadArgument: fewer than two frames, or times that do not rise.
    """
    if seconds.shape[1] < 2:
        raise BadArgument("one frame has no interval; tell the model its rate, or that it is unknown")
    steps = seconds.diff(dim=1)
    if not bool((steps > 0).all()):
        at = (steps <= 0).nonzero()[0].tolist()
        raise BadArgument(f"the time of frame {at[1] + 1} of sample {at[0]} does not come after that of frame {at[1]}")
    return torch.cat([steps, steps[:, -1:]], 1)


class RateEmbedding(nn.Module):
    """The logarithm of the local frame interval, as a vector for adaptive norm; a learned one where it is unknown.

    Args:
        channels: of the vector.
        dropout: share of samples that are told "unknown" in training.
        tones: sines and cosines of the scaled logarithm that the vector is made of.
    """

    def __init__(self, channels: int, *, dropout: float = 0.1, tones: int = 8):
        super().__init__()
        check_share(dropout=dropout)
        self.dropout, self.tones = dropout, tones
        self.project = nn.Sequential(nn.Linear(2 * tones + 1, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.unknown = nn.Parameter(0.02 * torch.randn(channels))

    def forward(
        self,
        interval_seconds: Float64[Tensor, "batch time"],
        known: Bool[Tensor, " batch"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "batch time channels"]:
        """Embed intervals.

        Args:
            interval_seconds: of each frame, for example from `frame_intervals`.
            known: samples whose rate can be believed; all by default.
            generator: draws the dropout in training.
        """
        low, high = math.log(FASTEST_SECONDS), math.log(SLOWEST_SECONDS)
        scaled = ((interval_seconds.clamp_min(1e-6).log() - low) / (high - low)).float()[..., None]
        phase = scaled * math.pi * torch.arange(1, self.tones + 1, device=scaled.device)
        told = self.project(torch.cat([scaled, phase.sin(), phase.cos()], -1).to(self.unknown.dtype))
        batch = len(interval_seconds)
        believed = torch.ones(batch, dtype=torch.bool, device=told.device) if known is None else known
        if self.training and self.dropout:
            drawn = torch.rand(batch, generator=generator, device="cpu" if generator is None else generator.device)
            believed = believed & (drawn.to(told.device) >= self.dropout)
        return torch.where(believed[:, None, None], told, self.unknown)
