"""Measures that look at pictures alone: agreement of neighbours, freezes, drift, cuts."""

import math
from array import array
from dataclasses import dataclass, field

import cv2
import numpy as np

from legato.metrics.measurement import Curve, Measurement, Metric
from legato.metrics.moment import Moment
from legato.motion.coherence import COHERENT_OVER, INCOHERENT_UNDER, coherence

__all__ = ["Coherence", "Cuts", "Drift", "Freezes", "TemporalFlickering"]

NO_PAIRS = "no two neighbouring frames of one shot to compare"


@dataclass
class Coherence(Metric):
    """Pearson correlation of neighbouring frames, and the share of pixels that stay."""

    curve: Curve = field(default_factory=lambda: Curve("higher"))
    stays: Curve = field(default_factory=lambda: Curve("neither"))
    bands: dict[str, int] = field(default_factory=lambda: {"coherent": 0, "between": 0, "incoherent": 0})

    def add(self, moment: Moment) -> None:
        """Compare with the frame before."""
        if moment.before is None:
            return
        pair = coherence(moment.small_pixels, moment.before.small_pixels)
        self.curve.add(moment.seconds, pair.correlation)
        self.stays.add(moment.seconds, pair.unchanged_share)
        self.bands[pair.band] += 1

    def result(self) -> list[Measurement]:
        """Mean correlation, shares of pairs in the bands, mean share of unchanged pixels."""
        note = "" if self.curve.count else NO_PAIRS
        pairs = max(1, self.curve.count)

        def share(band: str) -> float | None:
            return self.bands[band] / pairs if self.curve.count else None

        return [
            Measurement(
                "coherence", self.curve.mean, "correlation", "higher",
                "How alike neighbouring frames are (Pearson correlation). Rises with the frame rate.", self.curve,
                limit=INCOHERENT_UNDER, note=note,
            ),
            Measurement(
                "coherent_share", share("coherent"), "share", "higher",
                f"Share of neighbouring frames with a correlation over {COHERENT_OVER}.", note=note,
            ),
            Measurement(
                "incoherent_share", share("incoherent"), "share", "lower",
                f"Share of neighbouring frames with a correlation under {INCOHERENT_UNDER}.", note=note,
            ),
            Measurement(
                "unchanged_share", self.stays.mean, "share", "neither",
                "Share of pixels that stay as they are from frame to frame.", self.stays, note=note,
            ),
        ]  # fmt: skip


@dataclass
class TemporalFlickering(Metric):
    """Mean absolute difference of neighbouring frames: VBench's temporal flickering, and the same per second.

    VBench (Huang et al. 2023), `temporal_flickering.py`: (255 - mean of the pairs' mean absolute difference) / 255.
    It cannot tell flicker from motion; VBench applies it to videos of still scenes.
    """

    curve: Curve = field(default_factory=Curve)
    total: float = 0.0
    seconds: float = 0.0

    def add(self, moment: Moment) -> None:
        """Compare with the frame before."""
        if moment.before is not None:
            self.curve.add(moment.seconds, moment.change / 255 / moment.interval_seconds)
            self.total, self.seconds = self.total + moment.change, self.seconds + moment.interval_seconds

    def result(self) -> list[Measurement]:
        """VBench's score, and the change per second."""
        note, mean = (NO_PAIRS, None) if not self.curve.count else ("", self.total / self.curve.count)
        return [
            Measurement(
                "temporal_flickering", None if mean is None else (255 - mean) / 255, "score", "higher",
                "VBench's score: 1 for a still picture. Counts motion as flicker and rises with the frame rate.",
                note=note,
            ),
            Measurement(
                "change_per_second", None if mean is None else self.total / 255 / self.seconds, "1/s", "lower",
                "How much the picture changes in a second, in full ranges (black to white); the same at any frame "
                "rate.", self.curve, note=note,
            ),
        ]  # fmt: skip


@dataclass
class Freezes(Metric):
    """Frames that show the picture before them once more: exactly, or up to the codec's rounding.

    A pair counts as a repeat if no pixel value differs by more than a level, or if the mean difference is under a
    level and under a tenth of what is usual: the median of the pairs within a quarter of a second on either side
    that are themselves no repeats to the bit.
    """

    exact_levels: int = 1
    faint_share: float = 0.1
    reach_seconds: float = 0.25
    times: array = field(default_factory=lambda: array("d"))

    def add(self, moment: Moment) -> None:
        """Compare with the frame before; cuts are remembered as pairs that say nothing."""
        if moment.before is None:
            self.times.extend((moment.seconds, 0.0, math.nan, math.nan))
            return
        largest = cv2.norm(moment.image, moment.before.image, cv2.NORM_INF)
        self.times.extend((moment.seconds, moment.interval_seconds, moment.change, largest))

    def result(self) -> list[Measurement]:
        """Repeated frames, share of time they take, longest freeze."""
        seconds, intervals, change, largest = np.array(self.times).reshape(-1, 4).T
        pairs = ~np.isnan(change)
        if not pairs.any():
            return [
                Measurement(name, None, unit, "lower", about, note=NO_PAIRS)
                for name, unit, about in (
                    ("repeated_frames", "frames", "Frames that repeat the one before."),
                    ("frozen_share", "share", "Share of the time in which the picture stands still."),
                    ("longest_freeze", "s", "Longest time without a new picture."),
                )
            ]
        repeat = pairs & (largest <= self.exact_levels)
        lively = np.flatnonzero(pairs & ~repeat)
        times, changes, reach = seconds[lively], change[lively], self.reach_seconds + 1e-6
        first, last = np.searchsorted(times, times - reach), np.searchsorted(times, times + reach, side="right")
        for at in np.flatnonzero(changes < 1):
            near = np.concatenate([changes[first[at] : at], changes[at + 1 : last[at]]])
            repeat[lively[at]] = len(near) >= 2 and changes[at] < self.faint_share * np.median(near)
        curve, longest, run = Curve(), 0.0, 0.0
        for at in np.flatnonzero(pairs):
            run = run + intervals[at] if repeat[at] else 0.0
            longest = max(longest, run)
            curve.add(float(seconds[at]), run)
        total = float(intervals.sum())
        return [
            Measurement(
                "repeated_frames", float(repeat.sum()), "frames", "lower",
                "Frames that repeat the picture before them.", curve,
            ),
            Measurement(
                "frozen_share", float(intervals[repeat].sum()) / total, "share", "lower",
                "Share of the time in which no new picture comes.", curve,
            ),
            Measurement(
                "longest_freeze", longest, "s", "lower", "Longest time without a new picture.", curve,
            ),
        ]  # fmt: skip


@dataclass
class Drift(Metric):
    """Colour, contrast and sharpness relative to the first second of the shot.

    Colour is the distance of the mean colour in CIELAB; contrast the logarithm of the ratio of the standard
    deviations of lightness; sharpness that of the ratio of mean absolute Laplacians. The value is the mean over the
    last second of a shot; of several shots, weighted by their length. A shot under two seconds is split in halves.
    """

    shot: list[tuple[float, ...]] = field(default_factory=list)
    sums: np.ndarray = field(default_factory=lambda: np.zeros(4))
    curves: tuple[Curve, Curve, Curve] = field(default_factory=lambda: (Curve(), Curve(), Curve()))
    step_seconds: float = 1.0

    def add(self, moment: Moment) -> None:
        """Take the statistics of the frame."""
        if moment.before is None and self.shot:
            self._close()
        means, deviations = cv2.meanStdDev(cv2.cvtColor(moment.small, cv2.COLOR_RGB2LAB))
        sharp = cv2.norm(cv2.Laplacian(moment.small_grey, cv2.CV_16S), cv2.NORM_L1) / moment.small_grey.size
        light, a, b = means.ravel()
        self.shot.append((moment.seconds, light * 100 / 255, a, b, float(deviations[0, 0]), sharp))

    def _close(self) -> None:
        """Reckon up a shot."""
        numbers = np.array(self.shot)
        self.shot = []
        if len(numbers) < 2:
            return
        seconds = numbers[:, 0]
        length = float(seconds[-1] - seconds[0])
        window = min(self.step_seconds, length / 2)
        first = numbers[seconds <= seconds[0] + window].mean(0)
        colour = np.linalg.norm(numbers[:, 1:4] - first[1:4], axis=1)
        contrast = np.abs(np.log((numbers[:, 4] + 0.5) / (first[4] + 0.5)))
        sharpness = np.abs(np.log((numbers[:, 5] + 0.1) / (first[5] + 0.1)))
        late = seconds >= seconds[-1] - window
        for curve, values in zip(self.curves, (colour, contrast, sharpness), strict=True):
            for at, value in zip(seconds, values, strict=True):
                curve.add(float(at), float(value))
        last = numbers[late].mean(0)
        drifts = [
            float(np.linalg.norm(last[1:4] - first[1:4])),
            abs(math.log((last[4] + 0.5) / (first[4] + 0.5))),
            abs(math.log((last[5] + 0.1) / (first[5] + 0.1))),
        ]
        self.sums += length * np.array([*drifts, 1.0])

    def result(self) -> list[Measurement]:
        """Drift of colour, contrast and sharpness."""
        if self.shot:
            self._close()
        told = (
            ("colour_drift", "CIELAB",
             "How far the mean colour is in the end from that of the first second; 2 is just visible."),
            ("contrast_drift", "log ratio",
             "How much the contrast changes from the first second to the last: 0.1 is about 10 %."),
            ("sharpness_drift", "log ratio",
             "How much the sharpness changes from the first second to the last: 0.1 is about 10 %."),
        )  # fmt: skip
        weight = self.sums[3]
        return [
            Measurement(
                name,
                float(self.sums[at] / weight) if weight else None,
                unit,
                "lower",
                about,
                self.curves[at],
                note="" if weight else "a drift needs at least two frames",
            )
            for at, (name, unit, about) in enumerate(told)
        ]


@dataclass
class Cuts(Metric):
    """Where new shots begin. A cut is not incoherence; everything else starts over there."""

    found: list[float] = field(default_factory=list)
    first: float | None = None
    last: float = 0.0

    def add(self, moment: Moment) -> None:
        """Note a cut."""
        self.first = moment.seconds if self.first is None else self.first
        self.last = moment.seconds
        if moment.cut:
            self.found.append(moment.seconds)

    def result(self) -> list[Measurement]:
        """How many cuts."""
        curve = Curve("neither")
        for seconds in self.found:
            curve.add(seconds, 1.0)
        where = ", ".join(f"{s:.2f} s" for s in self.found[:8]) + (" ..." if len(self.found) > 8 else "")
        return [
            Measurement(
                "cuts", float(len(self.found)), "cuts", "neither", "Measures start over at each.", curve, note=where
            )
        ]
