"""Pictures between two pictures, at given times.

An interpolator maps two pictures and shares of the way between them, 0 at the first and 1 at the second, to pictures;
at 0 and 1 they are the given ones, bit for bit. `between` does it for frames at times in seconds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from legato.errors import BadArgument
from legato.motion.flow import LEAST_SIDE_PX, DisFlow, FlowEstimator
from legato.motion.moving import Beyond, Mixture, MovingPair
from legato.motion.warp import Field, places_of, sampled_at
from legato.video.frames import Frame, Frames
from legato.video.pixels import rows_of_pixels

__all__ = ["FlowInterpolator", "Interpolator", "LinearInterpolator", "Neighbour", "SimpleFlowInterpolator", "between"]

Picture = UInt8[Tensor, "3 height width"]
Image = Float32[np.ndarray, "rows columns 3"]
Other = UInt8[Tensor, "3 other_height other_width"]  # its size is checked with a message
Pictures = UInt8[Tensor, "time 3 height width"]

# Further or nearer than this from the pair, whose pictures are 1 apart, a picture tells little of how motion changes.
FURTHEST, NEAREST = 2.0, 0.5


@dataclass(frozen=True)
class Neighbour:
    """A picture of the same shot before or after the two that others go between: it shows how motion changes.

    Attributes:
        picture: RGB, of their size.
        share: when, on the scale of shares: -1 for the one before and 2 for the one after if all are evenly spaced.
    """

    picture: Other
    share: float


@runtime_checkable
class Interpolator(Protocol):
    """Anything that fills in pictures between two."""

    def __call__(
        self, first: Picture, second: Other, shares: Sequence[float], around: Sequence[Neighbour] = ()
    ) -> Pictures:
        """Pictures at shares of the way from `first` to `second`.

        Args:
            first: RGB, `uint8 (3, height, width)`.
            second: RGB of the same size.
            shares: each from 0 to 1.
            around: what is before and after, one of each at most, for those who have a use for it.

        Raises:
            BadArgument: sizes differ, or a share is out of range.
        """
        ...


@dataclass(frozen=True)
class LinearInterpolator:
    """Cross-fade: exact for light that changes, a double exposure for things that move."""

    def __call__(
        self, first: Picture, second: Other, shares: Sequence[float], around: Sequence[Neighbour] = ()
    ) -> Pictures:
        """Weighted means of the two pictures; see `Interpolator`."""
        check_pair(first, second, shares, around)
        a, b = (rows_of_pixels(picture).astype(np.float32) for picture in (first, second))
        return in_between(first, second, shares, lambda share: a + (b - a) * np.float32(share))


@dataclass(frozen=True)
class FlowInterpolator:
    """Both pictures moved along optical flow to the time in between, and blended where they agree there.

    Flow is thrown forward to that time from both sides: each pixel carries its motion along, those that are
    found again in the other picture count for more where several land, and gaps are filled in from around. A
    pixel that leaves one of the pictures is taken from the other. Where the two moved pictures agree they are sampled
    sharply, and softly where they do not. Where moving them hardly made them agree better, and where nothing moves by a
    pixel, the place is cross-faded as by `LinearInterpolator`.

    A picture before or after bends the way from straight lines to parabolas, both to cubics, and motion whose change is
    less known is believed less.
    Pictures of fewer than 12 pixels a side show no flow, and are cross-faded.

    Args:
        estimator: of the flow between the two pictures.
        beyond_estimator: of the flow to those around; it is smoothed, and need not be sharp.
    """

    estimator: FlowEstimator = DisFlow("finest")  # noqa: RUF009 - immutable
    beyond_estimator: FlowEstimator = DisFlow("medium", 256)  # noqa: RUF009 - immutable

    def __call__(
        self, first: Picture, second: Other, shares: Sequence[float], around: Sequence[Neighbour] = ()
    ) -> Pictures:
        """Pictures along the flow; see `Interpolator`."""
        return self.mixed(first, second, shares, around, MovingPair.mixture)

    def mixed(
        self,
        first: Picture,
        second: Other,
        shares: Sequence[float],
        around: Sequence[Neighbour],
        mixture: Callable[[MovingPair, float], Mixture],
    ) -> Pictures:
        """Pictures along the flow, put together as `mixture` says; see `Interpolator`."""
        check_pair(first, second, shares, around)
        if min(first.shape[-2:]) < LEAST_SIDE_PX:
            return LinearInterpolator()(first, second, shares)
        pair = self.pair(first, second, around) if any(0 < share < 1 for share in shares) else None

        def along(share: float) -> Image:
            assert pair is not None
            return pair.picture(mixture(pair, share))

        return in_between(first, second, shares, along)

    def pair(self, first: Picture, second: Picture, around: Sequence[Neighbour] = ()) -> MovingPair:
        """Two pictures with the flow between them both ways, and that to those around if they tell something."""
        forward, backward = (_field(self.estimator(a, b)) for a, b in ((first, second), (second, first)))
        sides: list[Beyond | None] = [None, None]
        for one in around:
            side, away = (0, -one.share) if one.share < 0 else (1, one.share - 1)
            if NEAREST <= away <= FURTHEST:
                flow = _field(self.beyond_estimator(second if side else first, one.picture))
                sides[side] = Beyond(rows_of_pixels(one.picture), flow, away)
        return MovingPair(rows_of_pixels(first), rows_of_pixels(second), forward, backward, *sides)


def _field(flow: Tensor) -> Field:
    return np.ascontiguousarray(flow.permute(1, 2, 0).cpu().numpy())


@dataclass(frozen=True)
class SimpleFlowInterpolator:
    """Both pictures moved along optical flow to the time in between and blended, whether they agree there or not.

    Several times as fast as `FlowInterpolator`, and where flow is wrong it shows: which a measure of motion wants.
    The flow from the time in between is approximated from the flows between the pictures (Jiang et al. 2018, "Super
    SloMo", equation 4), which holds for smooth motion. A pixel that leaves one of the pictures is taken from the other.

    Args:
        estimator: of the flow between the two pictures.
    """

    estimator: FlowEstimator = DisFlow("medium")  # noqa: RUF009 - immutable

    def __call__(
        self, first: Picture, second: Other, shares: Sequence[float], around: Sequence[Neighbour] = ()
    ) -> Pictures:
        """Pictures along the flow; see `Interpolator`."""
        check_pair(first, second, shares, around)
        images = [rows_of_pixels(picture).astype(np.float32) for picture in (first, second)]
        flows = []
        if any(0 < share < 1 for share in shares):
            flows = [_field(self.estimator(a, b)) for a, b in ((first, second), (second, first))]
        height, width = first.shape[-2:]

        def along(share: float) -> Image:
            there: np.ndarray | None = None
            total: np.ndarray | None = None
            for image, near, forward, backward in (
                (images[0], 1 - share, -(1 - share) * share, share**2),
                (images[1], share, (1 - share) ** 2, -share * (1 - share)),
            ):
                places = cv2.addWeighted(flows[0], forward, flows[1], backward, 0)
                places += places_of(height, width)
                seen = cv2.inRange(places, (0, 0, 0, 0), (width - 1, height - 1, 0, 0))
                weight = seen * np.float32(near / 255) + np.float32(near * 1e-3)
                moved = sampled_at(image, places)
                moved = cv2.multiply(moved, cv2.merge([weight] * 3))
                there = moved if there is None else cv2.add(there, moved)
                total = weight if total is None else total + weight
            assert there is not None
            assert total is not None
            return cv2.divide(there, cv2.merge([total] * 3))

        return in_between(first, second, shares, along)


def between(
    first: Frame, second: Frame, seconds: Sequence[Fraction | float], interpolator: Interpolator | None = None
) -> Frames:
    """Frames at times between two frames.

    Args:
        first: with its time.
        second: a later frame of the same size.
        seconds: rising times from the first to the second; floats stand for the nearest tick.
        interpolator: `FlowInterpolator()` where none is given.

    Returns:
        One frame for each time, in a time base that holds the times and those of the two frames exactly.

    Raises:
        BadArgument: the times do not rise or lie outside, or sizes differ.
    """
    if second.time <= first.time:
        raise BadArgument(f"{second} does not come after {first}")
    exact = [at if isinstance(at, Fraction) else Fraction(at).limit_denominator(1_000_000) for at in seconds]
    for at in exact:
        if not first.time <= at <= second.time:
            raise BadArgument(f"{float(at):g} s does not lie between {first.seconds:g} and {second.seconds:g} s")
    shares = [float((at - first.time) / (second.time - first.time)) for at in exact]
    base = Fraction(1, _common([first.time_base, second.time_base, *exact]))
    pts = torch.tensor([int(at / base) for at in exact], dtype=torch.int64)
    pictures = (interpolator or FlowInterpolator())(first.pixels, second.pixels, shares)
    return Frames(pictures, pts, base)


def _common(times: Sequence[Fraction]) -> int:
    return math.lcm(*(time.denominator for time in times))


def check_pair(first: Tensor, second: Tensor, shares: Sequence[float], around: Sequence[Neighbour] = ()) -> None:
    """Raise `BadArgument` where sizes differ or a share is out of range; see `Interpolator`."""
    for other in (second, *(one.picture for one in around)):
        if first.shape != other.shape:
            raise BadArgument(f"the pictures are {tuple(first.shape)} and {tuple(other.shape)}; expected one size")
    for one in around:
        if 0 <= one.share <= 1:
            raise BadArgument(f"share {one.share} of a picture around is neither before 0 nor after 1")
    for share in shares:
        if not 0 <= share <= 1:
            raise BadArgument(f"share {share} does not lie between 0 (the first picture) and 1 (the second)")


def in_between(first: Tensor, second: Tensor, shares: Sequence[float], inside: Callable[[float], Image]) -> Tensor:
    """The given pictures themselves at the ends, and what `inside` makes of a share elsewhere.

    All in NumPy: small tensor operations between OpenCV's would wait for torch's threads each time.
    """
    made = np.empty((len(shares), *first.shape[-2:], 3), dtype=np.uint8)
    for place, share in zip(made, shares, strict=True):
        if share in (0, 1):
            place[:] = rows_of_pixels(second if share else first)
        else:
            _, image = cv2.threshold(inside(share), 0, 0, cv2.THRESH_TOZERO)
            cv2.convertScaleAbs(image, dst=place)  # rounded once, half levels to even
    return torch.from_numpy(made).permute(0, 3, 1, 2).to(first.device)
