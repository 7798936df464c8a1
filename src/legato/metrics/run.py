"""Run metrics over a video, and over what a cheat would hand in: its frozen first frame, and its frames shuffled."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from legato.errors import BadArgument
from legato.metrics.flicker import FlashRate, FlickerSpectrum
from legato.metrics.measurement import Measurement, Metric
from legato.metrics.moment import FLOW_SIDE_PX, Moment, moments
from legato.metrics.motion import DynamicDegree, Jerk, Speed
from legato.metrics.order import Order
from legato.metrics.pictures import Coherence, Cuts, Drift, Freezes, TemporalFlickering
from legato.metrics.reference import FullReference
from legato.metrics.seams import Seams
from legato.metrics.timing import Timing
from legato.metrics.warping import FlowDifference, Ghosting, MotionSmoothness, WarpingError
from legato.motion.cuts import AdaptiveCuts, CutDetector
from legato.motion.flow import DisFlow, FlowEstimator
from legato.video.frames import Frame
from legato.video.prefetch import prefetched

__all__ = ["DEFAULT_METRICS", "REFERENCE_METRICS", "Measured", "Sample", "measure_frames", "with_controls"]

DEFAULT_METRICS: dict[str, Callable[[], Metric]] = {
    "order": Order,
    "coherence": Coherence,
    "flickering": TemporalFlickering,
    "spectrum": FlickerSpectrum,
    "flashes": FlashRate,
    "warping": WarpingError,
    "smoothness": MotionSmoothness,
    "jerk": Jerk,
    "ghosting": Ghosting,
    "seams": Seams,
    "freezes": Freezes,
    "timing": Timing,
    "drift": Drift,
    "dynamics": DynamicDegree,
    "speed": Speed,
    "cuts": Cuts,
}
REFERENCE_METRICS: dict[str, Callable[[], Metric]] = {"reference": FullReference, "tof": FlowDifference}

Makers = dict[str, Callable[[], Metric]]


@dataclass
class Sample:
    """The frames that the controls are made of: a second or so of one shot, in bounded memory."""

    least_seconds: float = 1.0
    least_frames: int = 24
    most_frames: int = 64
    frames: list[Frame] = field(default_factory=list)

    def add(self, moment: Moment) -> None:
        """Take the frame unless there are enough; a new shot starts over."""
        if self.full:
            return
        if moment.before is None:
            self.frames = []
        self.frames.append(moment.frame)

    @property
    def full(self) -> bool:
        """Whether there are enough frames."""
        if len(self.frames) < 2:
            return False
        span = self.frames[-1].seconds - self.frames[0].seconds
        enough = span >= self.least_seconds and len(self.frames) >= self.least_frames
        return enough or len(self.frames) >= self.most_frames

    def frozen(self) -> list[Frame]:
        """The first frame at all times."""
        return [replace(frame, pixels=self.frames[0].pixels) for frame in self.frames]

    def shuffled(self, seed: int = 0) -> list[Frame]:
        """The pictures in random order at the same times."""
        order = torch.randperm(len(self.frames), generator=torch.Generator().manual_seed(seed))
        return [replace(f, pixels=self.frames[int(at)].pixels) for f, at in zip(self.frames, order, strict=True)]


@dataclass(frozen=True)
class Measured:
    """What was measured of one video.

    Attributes:
        measurements: in the order of the metrics.
        controls: the same metrics for what a cheat would hand in; empty without controls.
        cuts_seconds: where new shots begin.
        frames: how many.
        first_seconds: time of the first frame.
        last_seconds: time of the last.
        interrupted: whether the look was broken off; what was measured until then stands.
    """

    measurements: list[Measurement]
    controls: dict[str, list[Measurement]]
    cuts_seconds: tuple[float, ...]
    frames: int
    first_seconds: float
    last_seconds: float
    interrupted: bool = False

    def __getitem__(self, name: str) -> Measurement:
        """A measurement by name."""
        for measurement in self.measurements:
            if measurement.name == name:
                return measurement
        raise BadArgument(f"no measurement '{name}'; there are {', '.join(m.name for m in self.measurements)}")

    def __contains__(self, name: str) -> bool:
        return any(m.name == name for m in self.measurements)

    def summary(self) -> dict[str, Any]:
        """Plain numbers: every metric, and the controls' values."""
        return {
            "metrics": {m.name: m.summary() for m in self.measurements},
            "controls": {kind: {m.name: m.value for m in found} for kind, found in self.controls.items()},
        }


def measure_frames(
    frames: Iterable[Frame],
    makers: Makers | None = None,
    *,
    reference: Iterable[Frame] | None = None,
    cuts: CutDetector | None = AdaptiveCuts(),  # noqa: B008 - immutable
    estimator: FlowEstimator = DisFlow("fast", FLOW_SIDE_PX),  # noqa: B008 - immutable
    controls: bool = False,
) -> Measured:
    """Measure a video in one pass.

    Args:
        frames: in order, of one size.
        makers: what to measure, by name: a function that makes a fresh metric; `DEFAULT_METRICS` where none are given.
        reference: true frames, matched by time counted from each video's first frame; of the same size.
        cuts: finds new shots, at which metrics start over.
        estimator: how motion is found.
        controls: also measure the frozen first frame and the shuffled frames of a second of the video.

    Raises:
        BadArgument: there is no frame, or the reference is of another size.
    """
    makers = DEFAULT_METRICS if makers is None else makers
    metrics = [make() for make in makers.values()]
    sample, times, begins = Sample(), [0.0, 0.0], []
    count, interrupted = 0, False
    prepare = tuple(dict.fromkeys(name for metric in metrics for name in metric.prepare))
    steps = moments(frames, cuts=cuts, estimator=estimator, reference=reference, prepare=prepare)
    try:
        for moment in prefetched(steps, depth=3):
            if moment.reference is not None and moment.reference.image.shape != moment.image.shape:
                (h, w), (th, tw) = moment.image.shape[:2], moment.reference.image.shape[:2]
                raise BadArgument(f"the video is {w}x{h} and the reference {tw}x{th}; scale one of them first")
            for metric in metrics:
                metric.add(moment)
            if controls:
                sample.add(moment)
            if moment.cut:
                begins.append(moment.seconds)
            times = [times[0] if count else moment.seconds, moment.seconds]
            count += 1
    except KeyboardInterrupt:
        if not count:
            raise
        interrupted = True
    if not count:
        raise BadArgument("there is no frame to measure")
    found = [measurement for metric in metrics for measurement in metric.result()]
    wanted = controls and len(sample.frames) > 1 and not interrupted
    cheats = with_controls(sample, makers, estimator) if wanted else {}
    return Measured(found, cheats, tuple(begins), count, times[0], times[1], interrupted)


def with_controls(sample: Sample, makers: Makers, estimator: FlowEstimator) -> dict[str, list[Measurement]]:
    """The metrics that need no reference, on the frozen and on the shuffled sample."""
    alone = {name: make for name, make in makers.items() if name not in REFERENCE_METRICS and name != "lpips"}
    return {
        kind: measure_frames(frames, alone, cuts=None, estimator=estimator).measurements
        for kind, frames in (("frozen", sample.frozen()), ("shuffled", sample.shuffled()))
    }
