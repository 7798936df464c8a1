"""Seams: jumps where a video was generated in pieces, every so many frames."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import Float64

from legato.errors import BadArgument
from legato.metrics.measurement import Curve, Measurement, Metric
from legato.metrics.moment import Moment

__all__ = ["Seams", "found_period"]

LEAST_REPEATS = 3
LEAST_SCORE = 10.0
MOST_BY_CHANCE = 0.1
LONGEST_PERIOD = 256
ROWS_AT_ONCE, VALUES_AT_ONCE = 4096, 1 << 20  # of a running median


@dataclass
class Seams(Metric):
    """How much the picture jumps at batch boundaries, relative to the frames between: 1 where there is no seam.

    Two signals are followed at each frame: the warped residual (what motion does not explain of the step into it) and
    the second difference (how the step into it differs from the one before). Both are divided by their median
    over a second around, and the larger counts. The value is their mean at boundaries over their mean elsewhere. A
    seam so strong that it passes for a cut counts as a seam; other cuts do not count.

    Args:
        boundaries: first frames of pieces: a list of frame numbers, a period in frames, or None to find a period.
    """

    prepare: ClassVar[tuple[str, ...]] = ("predicted",)
    boundaries: Sequence[int] | int | None = None
    rows: array = field(default_factory=lambda: array("d"))
    last_step: np.ndarray | None = None

    def __post_init__(self) -> None:
        if isinstance(self.boundaries, int) and self.boundaries < 2:
            raise BadArgument(f"a boundary every {self.boundaries} frames; expected 2 or more")

    def add(self, moment: Moment) -> None:
        """Measure the step into this frame."""
        if moment.last is None:
            self.rows.extend((moment.seconds, np.nan, np.nan, 0.0, 0.0))
            return
        small = moment.small.astype(np.int16)
        step = cv2.subtract(small, moment.last.small.astype(np.int16))
        second = np.nan
        if self.last_step is not None:
            second = cv2.norm(step, self.last_step, cv2.NORM_L1) / step.size
        residual = cv2.norm(moment.small, moment.predicted, cv2.NORM_L1) / moment.small.size
        self.rows.extend((moment.seconds, residual, second, float(moment.cut), float(moment.frame.key)))
        self.last_step = step

    def result(self) -> list[Measurement]:
        """Strength, period and place of the seams."""
        seconds, *signals, cuts, keys = np.array(self.rows).reshape(-1, 5).T
        residual, second = signals
        second[:-1] = np.fmin(second[:-1], second[1:])  # a jump differs from the steps on both its sides
        jump = np.fmax(_relative(seconds, residual), _relative(seconds, second))
        curve = Curve()
        for known in np.flatnonzero(np.isfinite(jump)):
            curve.add(float(seconds[known]), float(jump[known]))
        about = "How much the picture jumps at batch boundaries relative to elsewhere: 1 is no seam."
        name = "seam_period"
        told = "Frames from one seam to the next; 0 where none is found."
        if np.isfinite(jump).sum() < 4:
            note = "seams need at least six frames"
            return [
                Measurement("seams", None, "ratio", "lower", about, note=note),
                Measurement(name, None, "frames", "neither", told, note=note),
            ]
        note = ""
        at: np.ndarray
        if self.boundaries is None:
            period, phase = found_period(jump)
            at = np.arange(phase, len(jump), period) if period else np.zeros(0, dtype=int)
            note = f"every {period} frames, first at frame {phase}" if period else "no period stands out"
            if period and keys[at].all() and not keys[1:].all():
                note += ", where the file has keyframes: the codec may be at fault"
        elif isinstance(self.boundaries, int):
            period = self.boundaries
            at = np.arange(period, len(jump), period)
        else:
            period, at = 0, np.array(sorted(b for b in self.boundaries if 0 < b < len(jump)), dtype=int)
        at = at[np.isfinite(jump[at])] if len(at) else at
        value = 1.0
        if len(at):
            inside = np.isfinite(jump) & (cuts == 0)
            inside[at] = False
            value = float(jump[at].mean() / max(jump[inside].mean(), 1e-9)) if inside.any() else 1.0
        elif self.boundaries is not None:
            note = "no boundary lies inside the video"
        return [
            Measurement("seams", value, "ratio", "lower", about, curve, limit=2.0, note=note),
            Measurement(name, float(period), "frames", "neither", told, note=note),
        ]


def found_period(jump: Float64[np.ndarray, " time"]) -> tuple[int, int]:
    """The period and the first frame of jumps that come back every so many frames; (0, 0) where none stands out.

    Each period from 2 to 256 frames and each phase with three or more repeats is scored by how many standard errors the
    median of its frames lies over that of all, each capped, so that one large jump counts no more than another. Four in
    five of them have to jump, all where there are fewer than six, and so high that fewer than one in ten videos of
    jumps at random would show as much at any period and phase. A seam's period scores highest: its multiples have
    fewer frames, its divisors mix others in.

    Args:
        jump: how far each frame jumps relative to those around, not a number where that is not known; frame 0 begins no
            piece.
    """
    known = np.flatnonzero(np.isfinite(jump))
    if len(known) < 2 * LEAST_REPEATS:
        return 0, 0
    ordered = np.sort(jump[known])
    centre = float(np.median(ordered))
    spread = max(float(np.median(np.abs(ordered - centre))) * 1.4826, 0.02 * centre, 1e-9)
    later = np.minimum(jump[1 : known[-1] + 1], centre * 8)
    longest = min((len(later) + 1) // LEAST_REPEATS, LONGEST_PERIOD)
    best = (LEAST_SCORE, 0, 0)
    for period in range(2, longest + 1):
        padded = np.append(later, np.full(-len(later) % period, np.nan))
        combs = np.sort(padded.reshape(-1, period), axis=0)  # a column for each phase; what is not a number comes last
        counts = np.isfinite(combs).sum(0)
        phases = np.flatnonzero(counts >= LEAST_REPEATS)
        counts = counts[phases]
        median = (combs[(counts - 1) // 2, phases] + combs[counts // 2, phases]) / 2
        low = combs[(counts - 1) // 5, phases]
        as_high = 1 - np.searchsorted(ordered, low) / len(ordered)
        by_chance = longest**2 / 2 * as_high ** (counts - (counts - 1) // 5)
        jumps = (low > centre + 2 * spread) & (by_chance < MOST_BY_CHANCE)
        scores = np.where(jumps, (median - centre) / spread * np.sqrt(counts), 0.0)
        for score, phase in zip(scores, phases, strict=True):
            if score > best[0] * 1.001:
                best = (float(score), period, int(phase) + 1)
    return best[1], best[2]


def _relative(seconds: np.ndarray, signal: np.ndarray) -> np.ndarray:
    """A signal divided by its median over a second around each frame; where it is unknown, not a number."""
    floor = 0.05
    relative = np.full(len(signal), np.nan)
    first = np.searchsorted(seconds, seconds - 0.5)
    count = np.searchsorted(seconds, seconds + 0.5, side="right") - first
    known = np.flatnonzero(np.isfinite(signal))
    while len(known):
        widest = int(count[known[:ROWS_AT_ONCE]].max())
        at, known = np.split(known, [max(1, min(ROWS_AT_ONCE, VALUES_AT_ONCE // widest))])
        near = first[at, None] + np.arange(widest)  # (rows, widest), a row for each frame
        around = np.where(np.arange(widest) < count[at, None], signal[np.minimum(near, len(signal) - 1)], np.nan)
        around.sort(axis=1)  # what is not a number comes last
        there = np.isfinite(around).sum(1)
        rows = np.arange(len(at))
        median = (around[rows, (there - 1) // 2] + around[rows, there // 2]) / 2
        relative[at] = (signal[at] + floor) / (median + floor)
    return relative
