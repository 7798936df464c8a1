"""How a model is told the time."""

from legato.clock.frame_positions import FramePositions, WithFramePositions, load_older
from legato.clock.rate import RateEmbedding, frame_intervals
from legato.clock.seconds import SecondsEmbedding, SecondsRotary, rotated, tubelet_seconds

__all__ = [
    "FramePositions",
    "RateEmbedding",
    "SecondsEmbedding",
    "SecondsRotary",
    "WithFramePositions",
    "frame_intervals",
    "load_older",
    "rotated",
    "tubelet_seconds",
]
