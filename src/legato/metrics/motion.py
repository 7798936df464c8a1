"""How much, how fast and how evenly things move."""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from jaxtyping import Float64

from legato.errors import BadArgument
from legato.metrics.measurement import Curve, Measurement, Metric
from legato.metrics.moment import FLOW_SIDE_PX, Moment
from legato.metrics.pictures import NO_PAIRS
from legato.motion.flow import DisFlow, FlowEstimator

Number = int | float

FARTHEST_WIDTHS = 0.008  # further than this, flow over several frames loses more than it gains
SLOWEST_WIDTHS = 0.15 / FLOW_SIDE_PX  # what noise alone moves

__all__ = ["DynamicDegree", "Jerk", "Speed", "speed_slope"]


@dataclass
class DynamicDegree(Metric):
    """How much moves: flow of the fastest twentieth of the pixels over an eighth of a second.

    VBench (Huang et al. 2023), `dynamic_degree.py`: frames about 8 per second; a pair counts as dynamic where the mean
    length of the longest 5 % of its flow vectors exceeds 6 px at a short side of 256; the video is dynamic if a quarter
    of the frames' number of pairs is. VBench computes the flow with RAFT, here it is the estimator's.
    """

    estimator: FlowEstimator = DisFlow("medium", FLOW_SIDE_PX)  # noqa: RUF009 - immutable
    step_seconds: float = 1 / 8
    curve: Curve = field(default_factory=lambda: Curve("neither"))
    last: Moment | None = None
    dynamic: int = 0
    frames: int = 0
    distance: float = 0.0
    seconds: float = 0.0

    def add(self, moment: Moment) -> None:
        """Compare frames an eighth of a second apart."""
        if self.last is None or moment.before is None:
            self.last, self.frames = moment, self.frames + 1
            return
        passed = moment.seconds - self.last.seconds
        if passed < self.step_seconds - moment.interval_seconds / 2:
            return
        flow = self.estimator(self.last.small_pixels, moment.small_pixels).numpy()
        lengths = np.hypot(flow[0], flow[1]).ravel()
        count = max(1, int(len(lengths) * 0.05))
        longest = float(np.partition(lengths, -count)[-count:].mean())
        height, width = moment.small.shape[:2]
        self.dynamic += longest > 6 * min(height, width) / 256
        self.curve.add(moment.seconds, longest / width / passed)
        self.distance, self.seconds = self.distance + longest / width, self.seconds + passed
        self.last, self.frames = moment, self.frames + 1

    def result(self) -> list[Measurement]:
        """Speed of the fastest twentieth, and VBench's yes or no."""
        note = "" if self.curve.count else "no two frames an eighth of a second apart in one shot"
        speed = self.distance / self.seconds if self.seconds else None
        dynamic = float(self.dynamic >= round(4 * self.frames / 16)) if self.curve.count else None
        return [
            Measurement(
                "dynamic_degree", speed, "widths/s", "neither",
                "How fast the fastest twentieth of the picture moves, in picture widths per second.",
                self.curve, note=note,
            ),
            Measurement(
                "dynamic", dynamic, "0 or 1", "neither", "VBench's verdict whether the video moves at all.", note=note
            ),
        ]  # fmt: skip


@dataclass
class Speed(Metric):
    """How fast things move: the distribution of flow lengths over moving pixels, or the path of a coloured thing.

    Frames about a twenty-fourth of a second apart are compared, so that the frame rate plays no part (neighbours
    where things move too far in that time for the flow to follow), and every pixel
    counts by how far it moves, so that none has to be called still: half of all motion is faster than the median.

    Args:
        colour: RGB of a thing to track; its speed is that of the centroid of the pixels within 60 of the colour
            (Euclidean). None for dense flow.
    """

    colour: tuple[int, int, int] | None = None
    step_seconds: float = 1 / 24
    far: bool = False
    last: Moment | None = None
    curve: Curve = field(default_factory=lambda: Curve("neither"))
    histogram: np.ndarray = field(default_factory=lambda: np.zeros(600))
    places: list[tuple[float, float, float]] = field(default_factory=list)
    distance: float = 0.0
    seconds: float = 0.0

    def add(self, moment: Moment) -> None:
        """Take the frame's motion."""
        if self.colour is not None:
            self._follow(moment)
            return
        if self.last is None or moment.before is None:
            self.last = moment
            return
        passed = moment.seconds - self.last.seconds
        if passed < self.step_seconds - moment.interval_seconds / 2 and not self.far:
            return
        if self.last.index == moment.before.index:
            speeds = moment.speeds
        else:
            flow = moment.estimator(self.last.small_pixels, moment.small_pixels).numpy()[:, ::2, ::2]
            speeds = np.hypot(flow[0], flow[1]) / (moment.small.shape[1] * passed)
        self.last = moment
        moving = speeds[speeds > SLOWEST_WIDTHS / passed]
        self.far = bool(len(moving)) and float(np.quantile(moving, 0.9)) * self.step_seconds > FARTHEST_WIDTHS
        if len(moving) < 0.002 * speeds.size:
            self.curve.add(moment.seconds, 0.0)
            return
        bins = np.clip(np.log10(np.maximum(moving, 1e-4)) * 100 + 400, 0, 599).astype(int)
        self.histogram += np.bincount(bins, moving, minlength=600) * passed
        self.curve.add(moment.seconds, float(np.average(moving, weights=moving)))

    def _follow(self, moment: Moment) -> None:
        assert self.colour is not None
        near = np.square(moment.image.astype(np.int32) - self.colour).sum(-1) < 60**2
        if near.sum() < 4:
            self.places = []
            return
        y, x = near.nonzero()
        width = moment.frame.width
        here = (moment.seconds, float(x.mean()) / width, float(y.mean()) / width)
        if moment.before is None:
            self.places = []
        self.places.append(here)
        then = self.places[0]
        if here[0] - then[0] < self.step_seconds:
            return
        way = math.hypot(here[1] - then[1], here[2] - then[2])
        self.distance, self.seconds = self.distance + way, self.seconds + here[0] - then[0]
        bins = np.clip(np.log10(max(way / (here[0] - then[0]), 1e-4)) * 100 + 400, 0, 599)
        self.histogram[int(bins)] += here[0] - then[0]
        self.curve.add(here[0], way / (here[0] - then[0]))
        self.places = [here]

    def result(self) -> list[Measurement]:
        """Median, tenth and ninetieth percentile of the speed."""
        about = "of the speed of what moves, by amount of motion, in picture widths per second"
        names = (
            ("speed", 0.5, "Median"),
            ("speed_p10", 0.1, "Tenth percentile"),
            ("speed_p90", 0.9, "Ninetieth percentile"),
        )
        total = self.histogram.sum()
        if not total:
            note = "nothing of that colour moves"
            if self.colour is None:
                note = "hardly anything moves" if self.curve.count else NO_PAIRS
            value = 0.0 if self.curve.count and self.colour is None else None
            return [
                Measurement(n, value, "widths/s", "neither", f"{what} {about}.", self.curve, note=note)
                for n, _, what in names
            ]
        running = self.histogram.cumsum() / total
        at = [float(10 ** ((np.interp(share, running, np.arange(1, 601)) - 400) / 100)) for _, share, _ in names]
        if self.colour is not None:
            at[0] = self.distance / self.seconds
            about = f"{about} (the mean, for a tracked colour)"
        return [
            Measurement(n, value, "widths/s", "neither", f"{what} {about}.", self.curve if n == "speed" else None)
            for (n, _, what), value in zip(names, at, strict=True)
        ]


def speed_slope(rates: Sequence[Number], speeds: Sequence[Number]) -> float:
    """How measured speed follows the true rate: slope of log speed on log rate, 1 is right, 0 not at all.

    Args:
        rates: at which the same motion was played or asked for, relative to anything.
        speeds: what was measured at each.

    Raises:
        BadArgument: fewer than two rates, one not positive, or all the same.
    """
    if len(rates) != len(speeds) or len(set(rates)) < 2 or min(*rates, *speeds) <= 0:
        raise BadArgument(
            f"rates {list(rates)} and speeds {list(speeds)}; expected as many positive speeds as rates, and two rates"
        )
    slope, _ = np.polyfit(np.log(rates), np.log(speeds), 1)
    return float(slope)


@dataclass
class Jerk(Metric):
    """How evenly points move: jerk of their paths, and how far they tremble about smooth paths.

    Corners are tracked (pyramidal Lucas-Kanade) over windows of half a second and a cubic in seconds is fitted to
    each path. Its third derivative is the jerk, and the root mean square distance of the path from it the jitter,
    what the eye sees as shaking. Median over points, mean over windows; the same at any frame rate that has six
    frames in half a second.
    """

    window_seconds: float = 0.5
    most_points: int = 80
    start: float = 0.0
    points: np.ndarray | None = None
    last_grey: np.ndarray | None = None
    times: array = field(default_factory=lambda: array("d"))
    paths: list[np.ndarray] = field(default_factory=list)
    jerks: Curve = field(default_factory=Curve)
    jitters: Curve = field(default_factory=Curve)

    def add(self, moment: Moment) -> None:
        """Track the points of the window into this frame."""
        grey = moment.small_grey
        if moment.before is None or self.points is None or self.last_grey is None:
            self._begin(moment, grey)
            return
        if len(self.points):
            there, found, _ = cv2.calcOpticalFlowPyrLK(
                self.last_grey, grey, self.points, None, winSize=(15, 15), maxLevel=3
            )
            kept = found.ravel().astype(bool)
            self.points = there[kept]
            self.paths = [path[kept] for path in self.paths] + [there[kept, 0]]
        self.times.append(moment.seconds)
        self.last_grey = grey
        if moment.seconds - self.start >= self.window_seconds - 1e-9:
            self._close(grey.shape[1])
            self._begin(moment, grey)

    def _begin(self, moment: Moment, grey: np.ndarray) -> None:
        corners = cv2.goodFeaturesToTrack(grey, self.most_points, 0.01, 8)
        self.points = corners if corners is not None else np.zeros((0, 1, 2), np.float32)
        self.start, self.times = moment.seconds, array("d", [moment.seconds])
        self.paths, self.last_grey = [self.points[:, 0].copy()], grey

    def _close(self, width: int) -> None:
        if len(self.times) < 6 or self.points is None or len(self.points) < 4:
            return
        times = np.array(self.times)
        cubic, away = _cubic_fit(times - times.mean(), np.stack(self.paths).astype(np.float64) / width)
        at = float(times[len(times) // 2])
        self.jerks.add(at, float(np.median(cubic)))
        self.jitters.add(at, float(np.median(away)))

    def result(self) -> list[Measurement]:
        """Mean jerk and jitter."""
        note = "" if self.jerks.count else "no half second with six frames and corners to track"
        return [
            Measurement(
                "jerk", self.jerks.mean, "widths/s^3", "lower",
                "How abruptly motion speeds up and slows down: third derivative of the paths of tracked points.",
                self.jerks, note=note,
            ),
            Measurement(
                "jitter", self.jitters.mean, "widths", "lower",
                "How far points tremble about their smooth paths, as a share of the picture's width.",
                self.jitters, note=note,
            ),
        ]  # fmt: skip


def _cubic_fit(
    times: Float64[np.ndarray, " time"], paths: Float64[np.ndarray, "time points 2"]
) -> tuple[Float64[np.ndarray, " points"], Float64[np.ndarray, " points"]]:
    """Length of the third derivative of each path's cubic, and the path's distance from it (root mean square)."""
    powers = np.vander(times / times.max(), 4)
    flat = paths.reshape(len(times), -1)
    weights, *_ = np.linalg.lstsq(powers, flat, rcond=None)
    third = 6 * weights[0].reshape(-1, 2) / times.max() ** 3
    rest = (flat - powers @ weights).reshape(len(times), -1, 2)
    spare = max(1, len(times) - 4)
    return np.linalg.norm(third, axis=-1), np.sqrt(np.square(rest).sum((0, 2)) / spare)
