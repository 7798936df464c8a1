"""Whether frames come when they should: jitter of presentation times, gaps, jumps of the motion, declared rate."""

from array import array
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from legato.metrics.measurement import Curve, Measurement, Metric
from legato.metrics.moment import Moment
from legato.video.frame_times import measured_times

__all__ = ["Timing"]


@dataclass
class Timing(Metric):
    """Jitter of presentation times, frames missing from the times, and frames missing from the motion.

    A frame that was dropped before times were assigned leaves no gap: things move twice as far at one step. Such a
    jump is a step whose median speed exceeds both neighbours' and the median of the three on either side by 1.6.

    Args:
        declared_rate: frames per second that the file claims, None if unknown.
    """

    prepare: ClassVar[tuple[str, ...]] = ("speeds",)
    declared_rate: float | None = None
    tick_seconds: float = 0.0
    jump_factor: float = 1.6
    rows: array = field(default_factory=lambda: array("d"))

    def add(self, moment: Moment) -> None:
        """Take the time, and the speed of what moves."""
        self.tick_seconds = float(moment.frame.time_base)
        speed = np.nan
        if moment.before is not None:
            speeds = moment.speeds
            fast = speeds[speeds >= np.quantile(speeds, 0.9)]
            speed = float(np.median(fast)) if fast.max() * moment.interval_seconds > 0.001 else 0.0
        self.rows.extend((moment.seconds, speed))

    def result(self) -> list[Measurement]:
        """Jitter, missing frames, jumps, and how far the declared rate is off."""
        seconds, speeds = np.array(self.rows).reshape(-1, 2).T
        about = (
            "Spread of the times between frames (standard deviation relative to the median): 0 for a constant rate.",
            "Frames missing from the times: gaps in an otherwise regular rate.",
            "Steps at which everything moves too far: frames dropped before times were assigned.",
            "How far the declared frame rate is from the real one.",
        )
        told = (
            ("timing_jitter", "share"),
            ("missing_frames", "frames"),
            ("motion_jumps", "steps"),
            ("rate_error", "share"),
        )
        if len(seconds) < 3:
            return [
                Measurement(n, None, u, "lower", a, note="times need at least three frames")
                for (n, u), a in zip(told, about, strict=True)
            ]
        intervals = np.diff(seconds)
        times = measured_times(seconds, self.tick_seconds)
        median = float(np.median(intervals))
        even = Curve()
        for at, interval in zip(seconds[1:], intervals, strict=True):
            even.add(float(at), abs(float(interval) / median - 1))
        missing = sum(max(1, round(gap.length_seconds / median) - 1) for gap in times.gaps)
        jumps = Curve()
        sudden = self._jumps(speeds)
        for at in range(1, len(seconds)):
            jumps.add(float(seconds[at]), float(at in sudden))
        error, note = None, "the rate is not declared"
        if self.declared_rate and times.usual_rate and times.rate:
            error, note = min(abs(self.declared_rate / r - 1) for r in (times.usual_rate, times.rate)), ""
        values = (float(intervals.std() / median), float(missing), float(len(sudden)), error)
        curves = (even, even, jumps, None)
        return [
            Measurement(n, v, u, "lower", a, c, note=note if v is None else "")
            for (n, u), a, v, c in zip(told, about, values, curves, strict=True)
        ]

    def _jumps(self, speeds: np.ndarray) -> set[int]:
        """Frames into which things moved too far."""
        found = set()
        for at in range(2, len(speeds) - 1):
            near = np.concatenate([speeds[max(1, at - 3) : at], speeds[at + 1 : at + 4]])
            if not np.isfinite(near).all() or len(near) < 3 or not speeds[at] > 0:
                continue
            usual = float(np.median(near))
            if usual > 0 and speeds[at] > self.jump_factor * max(usual, float(near.max()) / 1.3):
                found.add(at)
        return found
