"""Errors along optical flow: warping error, motion smoothness, ghosting, and flow against a reference."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor

from legato.metrics.measurement import Curve, Measurement, Metric
from legato.metrics.moment import FLOW_SIDE_PX, Moment
from legato.metrics.pictures import NO_PAIRS
from legato.motion.flow import DisFlow
from legato.motion.interpolate import Interpolator, SimpleFlowInterpolator
from legato.motion.warp import Field, sampled
from legato.video.frames import Frame
from legato.video.pixels import rows_of_pixels

__all__ = ["FlowDifference", "Ghosting", "MotionSmoothness", "WarpingError", "hidden", "warping_error"]

QUIET_LEVELS = 0.5  # a difference that is as good as none

Image = UInt8[np.ndarray, "height width 3"]


def hidden(forward: Field, backward: Field) -> Bool[np.ndarray, "height width"]:
    """Where a pixel of the first picture is not to be found in the second, or lies on a motion boundary.

    With w the backward flow at p + forward(p), hidden where |w + f|^2 > 0.01 (|w|^2 + |f|^2) + 0.5; boundary where
    |grad u|^2 + |grad v|^2 > 0.01 |f|^2 + 0.002, forward differences (Sundaram, Brox and Keutzer 2010; Ruder,
    Dosovitskiy and Brox 2016, equations 5 and 6; as Lai et al. 2018 use it).

    Args:
        forward: from the first picture to the second, pixels.
        backward: from the second to the first.
    """
    arriving = sampled(backward, forward)
    length = _squared(forward)
    unmatched = _squared(cv2.add(forward, arriving)) > 0.01 * (_squared(arriving) + length) + np.float32(0.5)
    slope = np.zeros_like(length)
    slope[:, :-1] += _squared(forward[:, 1:] - forward[:, :-1])
    slope[:-1] += _squared(forward[1:] - forward[:-1])
    return unmatched | (slope > 0.01 * length + np.float32(0.002))


def _squared(vectors: np.ndarray) -> Float32[np.ndarray, "rows columns"]:
    """Squared length of the vectors on the last axis; plane by plane, which is several times as fast as `einsum`."""
    planes = cv2.split(vectors)
    total = planes[0] * planes[0]
    for plane in planes[1:]:
        total += plane * plane
    return total


def warping_error(first: Image, second: Image, forward: Field, backward: Field) -> float:
    """E_warp of one pair: mean square difference of the first picture and the second warped back onto it.

    E = sum over p not hidden of |second(p + forward(p)) - first(p)|^2 / (3 N), values 0 to 1, N pixels not hidden;
    where all are hidden, over all pixels. Lai et al. 2018, "Learning Blind Video Temporal Consistency", equation 11
    and the published `evaluate_WarpError.py`.

    Args:
        first: RGB.
        second: RGB of the same size.
        forward: flow from first to second.
        backward: flow from second to first.
    """
    squares = _squared(cv2.subtract(sampled(second.astype(np.float32), forward), first.astype(np.float32)))
    visible = ~hidden(forward, backward)
    seen = squares[visible] if visible.any() else squares
    return float(seen.mean(dtype=np.float64)) / (3 * 255**2)


@dataclass
class WarpingError(Metric):
    """Warping error by Lai et al. (2018), with the flow of the reference where there is one."""

    prepare: ClassVar[tuple[str, ...]] = ("flow_from", "flow_back")
    curve: Curve = field(default_factory=Curve)

    def add(self, moment: Moment) -> None:
        """Warp this frame onto the one before."""
        if moment.before is None:
            return
        twin = moment.reference if moment.reference and moment.reference.before else moment
        error = warping_error(moment.before.small, moment.small, twin.flow_from, twin.flow_back)
        self.curve.add(moment.seconds, error)

    def result(self) -> list[Measurement]:
        """Mean over the pairs."""
        about = (
            "Mean square difference (values 0 to 1) of each frame and the next one moved back along the motion, where "
            "both are seen: flicker, jumps and melting raise it, motion does not."
        )
        note = "" if self.curve.count else NO_PAIRS
        return [Measurement("warping_error", self.curve.mean, "mse", "lower", about, self.curve, note=note)]


@dataclass
class MotionSmoothness(Metric):
    """Every other frame is left out and rebuilt from its neighbours at its time: the residual tells how smooth it was.

    VBench's form, (255 - mean absolute difference) / 255, which a frozen video wins; and the residual relative to what
    the neighbours differ by, which it does not.
    """

    interpolator: Interpolator = SimpleFlowInterpolator(DisFlow("fast", FLOW_SIDE_PX))  # noqa: RUF009 - immutable
    curve: Curve = field(default_factory=Curve)
    shots: list[Frame] = field(default_factory=list)
    residual: float = 0.0
    apart: float = 0.0

    def add(self, moment: Moment) -> None:
        """Rebuild the middle one of every three frames."""
        small = Frame(moment.small_pixels, moment.frame.pts, moment.frame.time_base)
        self.shots = [*self.shots, small] if moment.before is not None else [small]
        if len(self.shots) < 3:
            return
        first, middle, last = self.shots
        share = float((middle.time - first.time) / (last.time - first.time))
        rebuilt = self.interpolator(first.pixels, last.pixels, [share])[0]
        residual = _difference(rebuilt, middle.pixels)
        apart = _difference(first.pixels, last.pixels)
        self.residual, self.apart = self.residual + residual, self.apart + apart
        self.curve.add(middle.seconds, residual / (apart + QUIET_LEVELS))
        self.shots = [last]

    def result(self) -> list[Measurement]:
        """VBench's form of the score, and the relative residual."""
        note = "" if self.curve.count else "rebuilding a frame needs three frames of one shot"
        count = self.curve.count
        mean = self.residual / count if count else None
        relative = self.residual / (self.apart + QUIET_LEVELS * count) if count else None
        return [
            Measurement(
                "motion_smoothness", None if mean is None else (255 - mean) / 255, "score", "higher",
                "How well a frame is rebuilt from its neighbours, in VBench's form: 1 is perfect; a frozen video wins.",
                note=note,
            ),
            Measurement(
                "unsmooth_share", relative, "share", "lower",
                "What rebuilding a frame from its neighbours leaves over, relative to how much the neighbours differ.",
                self.curve, note=note,
            ),
        ]  # fmt: skip


@dataclass
class Ghosting(Metric):
    """Trails: how much of what was there still shines through after it has gone.

    Pixels count where something has just gone or come and all is quiet soon after: the step from one frame to the next
    is large, the fourth and fifth step after it are small. Without a trail the second step is as good as nothing;
    with one it is the share of the first that was still missing. The value is the slope of the second step on the
    first over all such pixels: the opacity of the trail, 0 or below without one. It needs no flow and no reference.
    Things that slow down to rest leave a second step too, up to 0.4 of the first on sound clips, so it has no limit and
    is for comparing versions of one video.
    """

    least_levels: int = 16
    quiet_levels: tuple[int, int] = (6, 4)
    least_pixels: int = 20
    recent: list[np.ndarray] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    curve: Curve = field(default_factory=Curve)
    products: float = 0.0
    squares: float = 0.0

    def add(self, moment: Moment) -> None:
        """Look at the steps between the last six frames."""
        if moment.before is None:
            self.recent, self.times = [], []
        self.recent = [*self.recent[-5:], moment.small_grey.astype(np.int16)]
        self.times = [*self.times[-5:], moment.seconds]
        if len(self.recent) < 6:
            return
        steps = [b - a for a, b in pairwise(self.recent)]
        fourth, fifth = self.quiet_levels
        counts = (np.abs(steps[0]) >= self.least_levels) & (np.abs(steps[3]) <= fourth) & (np.abs(steps[4]) <= fifth)
        if counts.sum() < self.least_pixels:
            return
        first, second = steps[0][counts].astype(np.float64), steps[1][counts].astype(np.float64)
        product, square = float((first * second).sum()), float((first * first).sum())
        self.products, self.squares = self.products + product, self.squares + square
        self.curve.add(self.times[1], product / square)

    def result(self) -> list[Measurement]:
        """The slope over all such pixels."""
        about = (
            "How opaque the trail of moving things is: the share of what has gone that still shines through. Slow "
            "things leave some without a trail: compare versions of one video."
        )
        if not self.curve.count:
            return [Measurement("ghosting", None, "share", "lower", about, note="hardly anything comes to rest")]
        return [Measurement("ghosting", self.products / self.squares, "share", "lower", about, self.curve)]


@dataclass
class FlowDifference(Metric):
    """tOF: how far the motion is from the reference's.

    Chu et al. 2020, "Learning temporal coherence via self-supervision for GAN-based video generation" (TecoGAN),
    `metrics.py`: mean length of the difference of the Farneback flows (0.5, 3, 15, 3, 5, 1.2) of the grey frames.
    """

    curve: Curve = field(default_factory=Curve)

    def add(self, moment: Moment) -> None:
        """Compare the flow from the frame before with the reference's."""
        true = moment.reference
        if moment.before is None or true is None or true.before is None:
            return
        pairs = ((moment.before.grey, moment.grey), (true.before.grey, true.grey))
        ours, theirs = (cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 3, 15, 3, 5, 1.2, 0) for a, b in pairs)
        self.curve.add(moment.seconds, float(np.linalg.norm(ours - theirs, axis=-1).mean()))

    def result(self) -> list[Measurement]:
        """Mean over the pairs."""
        note = "" if self.curve.count else "no two neighbouring frames with a reference"
        about = "How far the motion is from the reference's, in pixels a frame (tOF)."
        return [Measurement("tof", self.curve.mean, "px", "lower", about, self.curve, note=note, needs="reference")]


def _difference(a: Tensor, b: Tensor) -> float:
    """Mean absolute difference of two pictures, 0 to 255."""
    one, other = rows_of_pixels(a), rows_of_pixels(b)
    return cv2.norm(one, other, cv2.NORM_L1) / one.size
