"""Measure whether a video is temporally coherent, and where it breaks."""

from legato.metrics.answers import Answer, answer_measurements, read_answers
from legato.metrics.features import FeatureConsistency
from legato.metrics.flicker import FlashRate, FlickerSpectrum
from legato.metrics.measurement import Curve, Measurement, Metric
from legato.metrics.moment import Moment, moments
from legato.metrics.motion import DynamicDegree, Jerk, Speed, speed_slope
from legato.metrics.order import Order
from legato.metrics.pictures import Coherence, Cuts, Drift, Freezes, TemporalFlickering
from legato.metrics.reference import FullReference, PerceptualDifference
from legato.metrics.run import DEFAULT_METRICS, REFERENCE_METRICS, Measured, measure_frames
from legato.metrics.seams import Seams
from legato.metrics.timing import Timing
from legato.metrics.warping import FlowDifference, Ghosting, MotionSmoothness, WarpingError

__all__ = [
    "DEFAULT_METRICS",
    "REFERENCE_METRICS",
    "Answer",
    "Coherence",
    "Curve",
    "Cuts",
    "Drift",
    "DynamicDegree",
    "FeatureConsistency",
    "FlashRate",
    "FlickerSpectrum",
    "FlowDifference",
    "Freezes",
    "FullReference",
    "Ghosting",
    "Jerk",
    "Measured",
    "Measurement",
    "Metric",
    "Moment",
    "MotionSmoothness",
    "Order",
    "PerceptualDifference",
    "Seams",
    "Speed",
    "TemporalFlickering",
    "Timing",
    "WarpingError",
    "answer_measurements",
    "measure_frames",
    "moments",
    "read_answers",
    "speed_slope",
]
