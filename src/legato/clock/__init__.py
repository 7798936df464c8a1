"""How a model is told the time."""

from legato.clock.estimator import RateEstimate, RateEstimator, load_rate_estimator
from legato.clock.frame_positions import FramePositions, WithFramePositions, load_older
from legato.clock.motion import TREND_SECONDS, changes, trends
from legato.clock.rate import RateEmbedding, frame_intervals
from legato.clock.seconds import SecondsEmbedding, SecondsRotary, rotated, tubelet_seconds

__all__ = [
    "TREND_SECONDS",
    "FramePositions",
    "RateEmbedding",
    "RateEstimate",
    "RateEstimator",
    "SecondsEmbedding",
    "SecondsRotary",
    "WithFramePositions",
    "changes",
    "frame_intervals",
    "load_older",
    "load_rate_estimator",
    "rotated",
    "trends",
    "tubelet_seconds",
]
