"""One frame as metrics see it: its picture, the one before it in the same shot, and the motion between them."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from torch import Tensor

from legato.motion.cuts import CutDetector
from legato.motion.flow import DisFlow, FlowEstimator
from legato.motion.warp import Field, sampled
from legato.video.frames import Frame
from legato.video.pixels import pixels_of_rows, rows_of_pixels, shrunk

__all__ = ["FLOW_SIDE_PX", "Moment", "aligned", "moments"]

FLOW_SIDE_PX = 256
CUT_DELAY_FRAMES = 4  # by then a detector has made up its mind

OF_ONE_PICTURE = ("image", "grey", "small", "small_pixels", "small_grey")
BETWEEN_TWO = ("change", "flow_from", "flow_back", "speeds", "predicted")

Image = UInt8[np.ndarray, "height width 3"]


@dataclass(eq=False)
class Moment:
    """A frame, with what is found out about it once for all metrics.

    Attributes:
        index: number of the frame in the video.
        frame: picture and time.
        before: the moment before in the same shot; None where a shot begins.
        cut: whether the frame begins a new shot of the video (its first frame does not).
        reference: the same moment of the reference video, where there is one.
        estimator: how motion is found.
        last: the moment before, be it of another shot; None for the first frame.
    """

    index: int
    frame: Frame
    before: "Moment | None"
    cut: bool = False
    reference: "Moment | None" = None
    estimator: FlowEstimator = DisFlow("fast", FLOW_SIDE_PX)  # noqa: RUF009 - immutable
    last: "Moment | None" = None

    def alone(self) -> "Moment":
        """The same moment without its past."""
        twin = self.reference.alone() if self.reference else None
        copy = Moment(self.index, self.frame, None, self.cut, twin, self.estimator)
        copy.__dict__.update({k: v for k, v in self.__dict__.items() if k in OF_ONE_PICTURE})
        return copy

    @property
    def seconds(self) -> float:
        """Presentation time."""
        return self.frame.seconds

    @property
    def interval_seconds(self) -> float:
        """Time since the moment before; 0 where a shot begins."""
        return float(self.frame.time - self.before.frame.time) if self.before else 0.0

    @cached_property
    def image(self) -> Image:
        """The picture, channels last."""
        return rows_of_pixels(self.frame.pixels)

    @cached_property
    def grey(self) -> UInt8[np.ndarray, "height width"]:
        """Luma."""
        return cv2.cvtColor(self.image, cv2.COLOR_RGB2GRAY)

    @cached_property
    def small(self) -> Image:
        """The picture with at most 256 pixels on its longer side."""
        return shrunk(self.image, FLOW_SIDE_PX)

    @cached_property
    def small_grey(self) -> UInt8[np.ndarray, "rows columns"]:
        """Luma of the small picture."""
        return cv2.cvtColor(self.small, cv2.COLOR_RGB2GRAY)

    @cached_property
    def small_pixels(self) -> UInt8[Tensor, "3 rows columns"]:
        """The small picture as a tensor, channels first."""
        return pixels_of_rows(self.small)

    @cached_property
    def change(self) -> float:
        """Mean absolute difference to the picture before, 0 to 255; 0 where a shot begins."""
        if self.before is None:
            return 0.0
        return cv2.norm(self.image, self.before.image, cv2.NORM_L1) / self.image.size

    @cached_property
    def flow_from(self) -> Field:
        """Where each pixel of the small picture before has gone in this one, in its pixels."""
        assert self.before is not None
        return _field(self.estimator, self.before, self)

    @cached_property
    def flow_back(self) -> Field:
        """Where each pixel of this small picture was in the last one, in its pixels."""
        assert self.last is not None
        return _field(self.estimator, self, self.last)

    @cached_property
    def speeds(self) -> Float32[np.ndarray, "rows columns"]:
        """Length of `flow_from` on every other pixel, in picture widths per second."""
        flow = self.flow_from[::2, ::2]
        return cv2.magnitude(flow[..., 0], flow[..., 1]) / (self.small.shape[1] * self.interval_seconds)

    @cached_property
    def predicted(self) -> UInt8[np.ndarray, "rows columns 3"]:
        """This small picture as the last one and the motion predict it."""
        assert self.last is not None
        return sampled(self.last.small, self.flow_back)


def _field(estimator: FlowEstimator, a: Moment, b: Moment) -> Field:
    return np.ascontiguousarray(estimator(a.small_pixels, b.small_pixels).permute(1, 2, 0).numpy())


def moments(
    frames: Iterable[Frame],
    *,
    cuts: CutDetector | None,
    estimator: FlowEstimator,
    reference: Iterable[Frame] | None = None,
    prepare: Sequence[str] = (),
) -> Iterator[Moment]:
    """Frames as moments, a few frames late, when it is certain where shots begin.

    A moment's `before` and `last` have no past of their own, so that no chain of pictures grows.

    Args:
        frames: in order, of one size.
        cuts: finds new shots; None for a video of one shot.
        estimator: how motion is found.
        reference: the true frames at the same times; where there is none at a frame's time, its reference is None.
        prepare: what to work out before a moment is handed out, such as `flow_from`; the rest waits until asked for.
    """
    last: Moment | None = None
    pairs = aligned(frames, reference) if reference is not None else ((frame, None) for frame in frames)
    for index, (frame, true, cut) in enumerate(_shots(pairs, cuts)):
        twin = None
        if true is not None:
            true_last = last.reference if last else None
            twin = Moment(index, true, None if cut else true_last, cut, None, estimator, true_last)
        now = Moment(index, frame, None if cut else last, cut, twin, estimator, last)
        for name in ("small", "small_grey", *prepare):
            if now.before is not None or name not in BETWEEN_TWO:
                getattr(now, name)
        yield now
        last = now.alone()


def _shots(
    pairs: Iterable[tuple[Frame, Frame | None]], cuts: CutDetector | None
) -> Iterator[tuple[Frame, Frame | None, bool]]:
    """Pairs of frames, and whether a new shot begins there."""
    waiting: deque[tuple[int, Frame, Frame | None]] = deque()
    begins: set[int] = set()
    state = None
    for number, (frame, true) in enumerate(pairs):
        waiting.append((number, frame, true))
        if cuts is not None:
            step = cuts.step(frame, state)
            state = step.state
            if step.confirmed is not None:
                begins.add(step.confirmed.frame)
        if len(waiting) > CUT_DELAY_FRAMES:
            first, frame, true = waiting.popleft()
            yield frame, true, first in begins
    if cuts is not None and state is not None:
        last = cuts.finish(state)
        if last is not None:
            begins.add(last.frame)
    for first, frame, true in waiting:
        yield frame, true, first in begins


def aligned(frames: Iterable[Frame], reference: Iterable[Frame]) -> Iterator[tuple[Frame, Frame | None]]:
    """Each frame with the reference frame nearest in time, if one is nearer than half an interval.

    Both clocks start at their first frame.
    """
    others = iter(reference)
    near = next(others, None)
    following = next(others, None)
    start, true_start = None, near.time if near else None
    for frame in frames:
        start = frame.time if start is None else start
        if near is None or true_start is None:
            yield frame, None
            continue
        now = frame.time - start
        while following is not None and abs(following.time - true_start - now) <= abs(near.time - true_start - now):
            near, following = following, next(others, None)
        step = following.time - near.time if following else None
        apart = abs(near.time - true_start - now)
        yield frame, near if (apart * 2 < step if step else apart * 60 < 1) else None
