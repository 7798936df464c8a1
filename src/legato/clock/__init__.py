"""How a model is told the time."""

from legato.clock.estimator import RateEstimate, RateEstimator, load_rate_estimator
from legato.clock.frame_positions import FramePositions, WithFramePositions, load_older
from legato.clock.rate import RateEmbedding, frame_intervals
from legato.clock.seconds import SecondsEmbedding, SecondsRotary, rotated, tubelet_seconds

__all__ = [
    "FramePositions",
    "RateEmbedding",
    "RateEstimate",
    "RateEstimator",
    "SecondsEmbedding",
    "SecondsRotary",
    "WithFramePositions",
    "frame_intervals",
    "load_older",
    "load_rate_estimator",
    "rotated",
    "tubelet_seconds",
]
