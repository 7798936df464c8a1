"""What a list of frame times says about a recording: constant or variable rate, and where frames are missing."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from legato.errors import BadArgument

__all__ = ["FrameTimes", "Gap", "measured_times"]

# Whole milliseconds are what many containers keep; a jitter of that size disturbs nobody.
JITTER_SECONDS = 0.001
# A gap is this much longer than nine intervals in ten: one missing frame doubles an interval.
GAP_FACTOR = 1.75
# Clocks of cameras drift less, and 24000/1001 is twice as far from 24.
RATE_SLACK = 5e-4


@dataclass(frozen=True)
class Gap:
    """A hole in the times: frame number `frame` is shown from `seconds` on, for too long."""

    frame: int
    seconds: float
    length_seconds: float


@dataclass(frozen=True)
class FrameTimes:
    """Statistics of the intervals between neighbouring frames; None where there are too few frames to say.

    Attributes:
        kind: `constant`, `constant with gaps`, `variable`, or `unknown` with fewer than three frames.
        span_seconds: last time minus first.
        rate: intervals per second of the span: what is there, gaps included.
        usual_rate: one over the mean of the intervals near the median: what most of the recording runs at.
        median_seconds: of the intervals, likewise `shortest_seconds` and `longest_seconds`.
        gaps: intervals that stand out as too long, in order.
    """

    kind: str
    span_seconds: float
    rate: float | None
    usual_rate: float | None
    median_seconds: float | None
    shortest_seconds: float | None
    longest_seconds: float | None
    gaps: tuple[Gap, ...] = ()

    def contradicts(self, declared_rate: float) -> bool:
        """Whether a declared rate fits neither the mean nor the usual rate, beyond rounding.

        One interval more or less, as files count the last frame, and 2 % are forgiven.
        """
        if not self.rate or not self.usual_rate:
            return False
        slack = 0.02 + 1.5 / (self.rate * self.span_seconds)
        return all(abs(declared_rate / rate - 1) > slack for rate in (self.rate, self.usual_rate))

    def believed_rate(self, declared: Fraction, tick_seconds: float) -> Fraction:
        """The declared rate, or that of the times themselves where it cannot be true of them.

        Even times tell their rate the better the longer they go on, however coarse the ticks: of 24 frames a second in
        milliseconds the first interval alone would say 23.81. Uneven ones have to contradict more clearly.

        Args:
            declared: frames per second.
            tick_seconds: the time base of the file, by which rounded times may be off.
        """
        if not self.rate or not self.usual_rate:
            return declared
        if not self.kind.startswith("constant"):
            return _simple(self.rate, RATE_SLACK) if self.contradicts(float(declared)) else declared
        slack = max(RATE_SLACK, tick_seconds * (1 + len(self.gaps)) / self.span_seconds)
        if any(abs(float(declared) / rate - 1) <= slack for rate in (self.rate, self.usual_rate)):
            return declared
        return _simple(self.usual_rate, slack)

    def summary(self) -> dict[str, Any]:
        """The same as plain numbers."""
        return {**vars(self), "gaps": [vars(gap) for gap in self.gaps]}


def _simple(rate: float, slack: float) -> Fraction:
    """A rate as it is usual, if one is that near: whole, or 1000/1001 of whole."""
    usual = (Fraction(round(rate)), Fraction(1000 * round(1.001 * rate), 1001))
    near = [one for one in usual if abs(float(one) / rate - 1) <= slack]
    return near[0] if near else Fraction(rate).limit_denominator(1001)


def measured_times(seconds: np.ndarray, tick_seconds: float = 0.0) -> FrameTimes:
    """Statistics of rising frame times.

    Intervals count as equal if they differ from the median by no more than a tick of the file's clock or a
    millisecond (but never by 40 % of the median, as where the clock ticks once a frame).

    Args:
        seconds: times, float64 (time,), rising.
        tick_seconds: the time base of the file, by which rounded times may be off.

    Raises:
        BadArgument: times do not rise.
    """
    intervals = np.diff(seconds)
    if not len(intervals):
        return FrameTimes("unknown", 0.0, None, None, None, None, None)
    if intervals.min() <= 0:
        at = int(intervals.argmin()) + 1
        raise BadArgument(f"the time of frame {at} does not come after that of frame {at - 1}; give frames in order")
    median = float(np.median(intervals))
    # Nearest rank: with few frames an interpolated quantile would be a part of the very gap it is to find.
    usual_long = float(np.quantile(intervals, 0.9, method="lower"))
    out = intervals > max(GAP_FACTOR * usual_long, usual_long + JITTER_SECONDS)
    tolerance = 1.01 * min(max(tick_seconds, JITTER_SECONDS), 0.4 * median)
    usual = np.abs(intervals - median) <= tolerance
    even = bool(np.all(usual[~out]))
    kind = "variable" if not even else "constant with gaps" if out.any() else "constant"
    span = float(seconds[-1] - seconds[0])
    return FrameTimes(
        kind=kind if len(intervals) > 1 else "unknown",
        span_seconds=span,
        rate=len(intervals) / span,
        usual_rate=1 / float(intervals[usual].mean()) if usual.any() else 1 / median,
        median_seconds=median,
        shortest_seconds=float(intervals.min()),
        longest_seconds=float(intervals.max()),
        gaps=tuple(Gap(int(at), float(seconds[at]), float(intervals[at])) for at in np.flatnonzero(out)),
    )
