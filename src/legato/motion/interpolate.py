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
from legato.motion.flow import DisFlow, FlowEstimator
from legato.motion.warp import Field, places_of, sampled, sampled_at
from legato.video.frames import Frame, Frames
from legato.video.pixels import rows_of_pixels

__all__ = ["FlowInterpolator", "Interpolator", "LinearInterpolator", "SimpleFlowInterpolator", "between"]

Picture = UInt8[Tensor, "3 height width"]
Image = Float32[np.ndarray, "rows columns 3"]
Other = UInt8[Tensor, "3 other_height other_width"]  # its size is checked with a message
Pictures = UInt8[Tensor, "time 3 height width"]
Bytes = UInt8[np.ndarray, "rows columns 3"]
Plane = Float32[np.ndarray, "rows columns"]

GRID_SIDE_PX = 512  # longer side of what motion is carried along on
UNLIKE_LEVELS = 10.0  # grey levels of difference at which a match counts for a third
LEAST_WEIGHT = 1e-3  # under it a place counts as one where nothing has landed
AGREE_SHARE, SHARP_SHARE = 1 / 17, 1 / 51  # of the longer side: what is looked at around a place
BELIEVED_SHARE = 0.8  # of the difference between two pictures, which moving them may leave
GAIN_LEVELS = 2.0  # grey levels over which belief goes from none to full
HOPELESS_LEVELS = 30.0  # grey levels of difference left at which moving is believed half as much
SHARP_LEVELS = 8.0  # grey levels of difference at which sampling is a third sharp
STILL_PX = 1.0


@runtime_checkable
class Interpolator(Protocol):
    """Anything that fills in pictures between two."""

    def __call__(self, first: Picture, second: Other, shares: Sequence[float]) -> Pictures:
        """Pictures at shares of the way from `first` to `second`.

        Args:
            first: RGB, `uint8 (3, height, width)`.
            second: RGB of the same size.
            shares: each from 0 to 1.

        Raises:
            BadArgument: sizes differ, or a share is out of range.
        """
        ...


@dataclass(frozen=True)
class LinearInterpolator:
    """Cross-fade: exact for light that changes, a double exposure for things that move."""

    def __call__(self, first: Picture, second: Other, shares: Sequence[float]) -> Pictures:
        """Weighted means of the two pictures; see `Interpolator`."""
        _check(first, second, shares)
        a, b = (rows_of_pixels(picture).astype(np.float32) for picture in (first, second))
        return _all(first, second, shares, lambda share: a + (b - a) * np.float32(share))


@dataclass(frozen=True)
class FlowInterpolator:
    """Both pictures moved along optical flow to the time in between, and blended where they agree there.

    Flow is thrown forward to that time from both sides: each pixel carries its motion along, those that are
    found again in the other picture count for more where several land, and gaps are filled in from around. A
    pixel that leaves one of the pictures is taken from the other. Where the two moved pictures agree they are sampled
    sharply, and softly where they do not. Where moving them hardly made them agree better, and where nothing moves by a
    pixel, the place is cross-faded as by `LinearInterpolator`.

    Args:
        estimator: of the flow between the two pictures.
    """

    estimator: FlowEstimator = DisFlow("finest")  # noqa: RUF009 - immutable

    def __call__(self, first: Picture, second: Other, shares: Sequence[float]) -> Pictures:
        """Pictures along the flow; see `Interpolator`."""
        _check(first, second, shares)
        pair: _MovingPair | None = None
        if any(0 < share < 1 for share in shares):
            flows = [self.estimator(a, b) for a, b in ((first, second), (second, first))]
            forward, backward = (np.ascontiguousarray(flow.permute(1, 2, 0).cpu().numpy()) for flow in flows)
            pair = _MovingPair(rows_of_pixels(first), rows_of_pixels(second), forward, backward)

        def along(share: float) -> Bytes:
            assert pair is not None
            return pair.at(share)

        return _all(first, second, shares, along)


class _MovingPair:
    """Two pictures, and what moves between them, on a grid of at most `GRID_SIDE_PX` where pixels need not count."""

    def __init__(self, first: Bytes, second: Bytes, forward: Field, backward: Field) -> None:
        self.pictures = (first, second)
        self.height, self.width = first.shape[:2]
        scale = min(GRID_SIDE_PX / max(self.height, self.width), 1.0)
        self.grid = (max(round(self.height * scale), 1), max(round(self.width * scale), 1))
        self.per_cell = np.array([self.width / self.grid[1], self.height / self.grid[0]], dtype=np.float32)
        self.small = tuple(self._on_grid(picture) for picture in self.pictures)
        self.flows = tuple(self._on_grid(flow) / self.per_cell for flow in (forward, backward))
        self.trust = tuple(self._trust(side) for side in (0, 1))
        self.agree_px = self._odd(AGREE_SHARE)
        self.sharp_px = self._odd(SHARP_SHARE)
        self.apart = _difference(*self.small)

    def at(self, share: float) -> Bytes:
        """The picture at a share of the way."""
        motion = self._motion(share)
        ways = (-share, 1 - share)
        first, second = (sampled(small, motion * np.float32(way)) for small, way in zip(self.small, ways, strict=True))
        pays, sharpness = self._judged(first, second, motion, share)
        motion = self._on_picture(motion * self.per_cell)
        weights, soft, sharp = [], [], []
        for picture, way, near in zip(self.pictures, ways, (1 - share, share), strict=True):
            places = motion * np.float32(way) + places_of(self.height, self.width)
            seen = cv2.inRange(places, (0, 0, 0, 0), (self.width - 1, self.height - 1, 0, 0))
            weights.append(seen * np.float32(near / 255) + np.float32(near * 1e-3))
            soft.append(sampled_at(picture, places))
            sharp.append(cv2.remap(picture, places, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))
        softly, sharply = (cv2.blendLinear(*pair, *weights) for pair in (soft, sharp))
        faded = cv2.addWeighted(self.pictures[0], 1 - share, self.pictures[1], share, 0)
        return _mixed(_mixed(sharply, softly, self._on_picture(sharpness)), faded, self._on_picture(pays))

    def _motion(self, share: float) -> Field:
        """Motion from the first picture to the second of what is where at that time, in cells of the grid."""
        rows, columns = self.grid
        total = np.zeros((3, rows, columns), dtype=np.float32)
        for flow, trust, way, near, sign in zip(
            self.flows, self.trust, (share, 1 - share), (1 - share, share), (1, -1), strict=True
        ):
            landing = np.rint(flow * np.float32(way) + places_of(rows, columns)).astype(np.int32)
            x, y = landing[..., 0], landing[..., 1]
            inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
            cells = y[inside] * columns + x[inside]
            weight = trust[inside] * np.float32(near)
            carried = (weight, *(sign * weight * flow[..., axis][inside] for axis in (0, 1)))
            for plane, values in zip(total, carried, strict=True):
                plane += np.bincount(cells, values, rows * columns).reshape(rows, columns)
        blurred = [cv2.blur(plane, (3, 3)) for plane in total]
        return _filled(np.dstack(blurred[1:]), blurred[0])

    def _trust(self, side: int) -> Plane:
        """How well each pixel of one picture is found in the other, and finds its way back."""
        flow, back = self.flows[side], self.flows[1 - side]
        strayed = np.linalg.norm(flow + sampled(back, flow), axis=-1)
        unlike = _mean(cv2.blur(cv2.absdiff(self.small[side], sampled(self.small[1 - side], flow)), (3, 3)))
        return np.asarray(np.exp(-unlike / UNLIKE_LEVELS) * (np.exp(-strayed) + np.float32(1e-3)), dtype=np.float32)

    def _judged(self, first: Bytes, second: Bytes, motion: Field, share: float) -> tuple[Plane, Plane]:
        """For each cell of the grid how far moving is believed, and how sharp the result may be; 0 to 1."""
        difference = _difference(first, second)
        both = self._in_both(motion, share)
        apart, left, shown = (_blurred(plane, self.agree_px) for plane in (self.apart, difference * both, both))
        left /= shown + np.float32(0.01)  # beyond an edge of one picture the other one is believed
        gain = np.float32(BELIEVED_SHARE) * apart - left
        pays = 1 / (1 + np.exp(-gain / GAIN_LEVELS)) / (1 + np.square(np.square(left / HOPELESS_LEVELS)))
        squared = np.square(motion * self.per_cell).sum(-1)
        sharpness = np.exp(-_blurred(difference, self.sharp_px) / SHARP_LEVELS)
        return pays * (1 - np.exp(-squared / STILL_PX**2)), sharpness

    def _in_both(self, motion: Field, share: float) -> Plane:
        """1 for each cell that both pictures show, and 0 elsewhere."""
        rows, columns = self.grid
        inside = np.ones(self.grid, dtype=np.uint8)
        for way in (-share, 1 - share):
            places = motion * np.float32(way) + places_of(rows, columns)
            inside &= cv2.inRange(places, (0, 0, 0, 0), (columns - 1, rows - 1, 0, 0))
        return inside.astype(np.float32)

    def _odd(self, share: float) -> int:
        return round(max(self.grid) * share) // 2 * 2 + 1

    def _on_grid(self, image: np.ndarray) -> np.ndarray:
        return (
            image if image.shape[:2] == self.grid else cv2.resize(image, self.grid[::-1], interpolation=cv2.INTER_AREA)
        )

    def _on_picture(self, image: np.ndarray) -> np.ndarray:
        size = (self.width, self.height)
        return image if image.shape[:2] == size[::-1] else cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


def _mean(image: Bytes) -> Plane:
    """Mean over the channels."""
    return cv2.transform(image.astype(np.float32), np.full((1, 3), 1 / 3, dtype=np.float32))


def _difference(first: Bytes, second: Bytes) -> Plane:
    return _mean(cv2.absdiff(first, second))


def _blurred(plane: Plane, side_px: int) -> Plane:
    return cv2.blur(plane, (side_px, side_px))


def _mixed(first: Bytes, second: Bytes, share: Plane) -> Bytes:
    return cv2.blendLinear(first, second, share, 1 - share)


def _filled(total: Field, weight: Plane) -> Field:
    """Weighted sums as means, and next to nothing filled in from coarser and coarser means of what is around."""
    mean = total / np.maximum(weight, 1e-9)[..., None]
    rows, columns = weight.shape
    if weight.min() >= LEAST_WEIGHT or max(rows, columns) <= 2:
        return mean
    size = ((columns + 1) // 2, (rows + 1) // 2)
    coarse = _filled(*(cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (total, weight)))
    known = np.minimum(weight / LEAST_WEIGHT, 1)[..., None]
    return known * mean + (1 - known) * cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_LINEAR)


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

    def __call__(self, first: Picture, second: Other, shares: Sequence[float]) -> Pictures:
        """Pictures along the flow; see `Interpolator`."""
        _check(first, second, shares)
        images = [rows_of_pixels(picture).astype(np.float32) for picture in (first, second)]
        flows = []
        if any(0 < share < 1 for share in shares):
            pairs = ((first, second), (second, first))
            flows = [self.estimator(a, b).permute(1, 2, 0).cpu().numpy() for a, b in pairs]
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

        return _all(first, second, shares, along)


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


def _check(first: Tensor, second: Tensor, shares: Sequence[float]) -> None:
    if first.shape != second.shape:
        raise BadArgument(f"the pictures are {tuple(first.shape)} and {tuple(second.shape)}; expected one size")
    for share in shares:
        if not 0 <= share <= 1:
            raise BadArgument(f"share {share} does not lie between 0 (the first picture) and 1 (the second)")


def _all(first: Tensor, second: Tensor, shares: Sequence[float], inside: Callable[[float], Image | Bytes]) -> Tensor:
    """The given pictures themselves at the ends, and what `inside` makes of a share elsewhere.

    All in NumPy: small tensor operations between OpenCV's would wait for torch's threads each time.
    """
    made = np.empty((len(shares), *first.shape[-2:], 3), dtype=np.uint8)
    for place, share in zip(made, shares, strict=True):
        if share in (0, 1):
            place[:] = rows_of_pixels(second if share else first)
        else:
            np.copyto(place, np.clip(np.rint(inside(share)), 0, 255), casting="unsafe")
    return torch.from_numpy(made).permute(0, 3, 1, 2).to(first.device)
