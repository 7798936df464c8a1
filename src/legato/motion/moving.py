"""Two pictures and what moves between them: where to look in each, and how much of each to take.

`MovingPair` throws optical flow forward to a time in between, along curves where it knows what is beyond, and says, on
a coarse grid, how a picture there is to be put together: a `Mixture`. It then puts it together from the pictures at
their full size. The two are apart so that a network may correct the first.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from legato.motion.warp import Field, places_of, sampled, sampled_at

__all__ = ["Beyond", "Mixture", "MovingPair"]

Bytes = UInt8[np.ndarray, "rows columns 3"]
Image = Float32[np.ndarray, "rows columns 3"]
Plane = Float32[np.ndarray, "rows columns"]

GRID_SIDE_PX = 512  # longer side of what motion is carried along on
UNLIKE_LEVELS = 10.0  # grey levels of difference at which a match counts for a third
LEAST_WEIGHT = 1e-3  # under it a place counts as one where nothing has landed
AGREE_SHARE, SHARP_SHARE = 1 / 17, 1 / 51  # of the longer side: what is looked at around a place
LEFT_WEIGHT = 2.0  # of the square of what moving leaves, beside that of the difference as it is
BENT_SHARE = 0.75  # of the change of motion, where one side tells of it: the rest is what noise and jerks pretend
BENT_TWICE = 1.4  # where both do; smoothing takes away a part of what is seen
BENT_WEIGHT = 0.25  # of the square of what is not known of it, beside that of the motion
UNSURE = 0.03  # trust in what is beyond at which a bend counts half
NOISE_LEVELS = 2.0  # grey levels of difference under which there is little to explain
HOPELESS_LEVELS = 30.0  # grey levels of difference left at which moving is believed half as much
SHARP_LEVELS = 8.0  # grey levels of difference at which sampling is a third sharp
STILL_PX = 1.0
WHOLE = 1024.0  # sum of weights: OpenCV adds 1e-5 to it, which would turn half levels down if they summed to 1
UNSEEN = 1e-3  # weight of a place beyond a picture's edge, beside 1 within
SEEN = np.linspace(UNSEEN, 1 + UNSEEN, 256, dtype=np.float32)  # the same by a mask of 0 and 255


@dataclass(frozen=True)
class Mixture:
    """How a picture at a time between two is put together, for each cell of a grid.

    Attributes:
        motions: where to look in the first and in the second picture, from the cell; in cells.
        first: share of the first picture among the two moved ones, where both show the place.
        still_first: the same among the two as they are.
        moved: share of the moved pictures; the rest is cross-faded.
        sharpness: share of cubic sampling; the rest is bilinear.
    """

    motions: tuple[Field, Field]
    first: Plane
    still_first: Plane
    moved: Plane
    sharpness: Plane


@dataclass(frozen=True)
class Beyond:
    """A picture of the same shot before the first of a pair, or after the second.

    Attributes:
        picture: RGB, channels last.
        flow: from the nearer picture of the pair to it, in pixels.
        away: how far it is from that picture, where those of the pair are 1 apart.
    """

    picture: Bytes
    flow: Field
    away: float


class MovingPair:
    """Two pictures, and what moves between them, on a grid of at most `GRID_SIDE_PX` where pixels need not count.

    Args:
        first: RGB, channels last.
        second: of the same size.
        forward: flow from the first to the second, in pixels.
        backward: the other way.
        before: what was before; without it and what comes after, motion counts as even.
        after: what comes after.
    """

    def __init__(
        self,
        first: Bytes,
        second: Bytes,
        forward: Field,
        backward: Field,
        before: Beyond | None = None,
        after: Beyond | None = None,
    ) -> None:
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
        self.bends = tuple(None if it is None else self._bend(side, it) for side, it in enumerate((before, after)))

    def mixture(self, share: float) -> Mixture:
        """What optical flow alone makes of a share of the way."""
        motion = self._motion(share)
        motions = (motion * np.float32(-share), motion * np.float32(1 - share))
        unknown: Plane | float = 0.0
        bends = [sampled(bend, way) for bend, way in zip(self.bends, motions, strict=True) if bend is not None]
        if bends:
            aside, change = _curved(bends, share)
            motions = (motions[0] + aside, motions[1] + aside)
            unknown = np.square(change).sum(-1) / np.square(np.linalg.norm(motion, axis=-1) + 1)
        first, second = (sampled(small, way) for small, way in zip(self.small, motions, strict=True))
        moved, sharpness = self._judged(first, second, motion, motions, unknown)
        near = np.full(self.grid, 1 - share, dtype=np.float32)
        return Mixture(motions, near, near, moved, sharpness)

    def picture(self, mixture: Mixture) -> Image:
        """Put a picture together from the two at their full size; levels are not rounded yet."""
        first, still_first, moved, sharpness = (
            self._on_picture(plane * np.float32(WHOLE))
            for plane in (mixture.first, mixture.still_first, mixture.moved, mixture.sharpness)
        )
        pictures = tuple(picture.astype(np.float32) for picture in self.pictures)
        weights, soft, sharp = [], [], []
        for picture, motion, near in zip(pictures, mixture.motions, (first, _rest(first)), strict=True):
            places = cv2.add(self._on_picture(motion * self.per_cell), places_of(self.height, self.width))
            seen = cv2.inRange(places, (0, 0, 0, 0), (self.width - 1, self.height - 1, 0, 0))
            weights.append(cv2.multiply(near, cv2.LUT(seen, SEEN)))
            soft.append(sampled_at(picture, places))
            sharp.append(cv2.remap(picture, places, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))
        softly, sharply = (cv2.blendLinear(*pair, *weights) for pair in (soft, sharp))
        faded = _mixed(pictures[0], pictures[1], still_first)
        return _mixed(_mixed(sharply, softly, sharpness), faded, moved)

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

    def _bend(self, side: int, beyond: Beyond) -> Field:
        """By how much the motion of what is where in one picture changes from one pair to the next, in cells.

        A parabola through three places (Xu et al. 2019, "Quadratic video interpolation", equations 2 to 4), which bends
        the same way seen from either end.
        """
        picture, flow = self._on_grid(beyond.picture), self._on_grid(beyond.flow) / self.per_cell
        unlike = _mean(cv2.blur(cv2.absdiff(self.small[side], sampled(picture, flow)), (3, 3)))
        trust = self.trust[side] * np.exp(-unlike / UNLIKE_LEVELS)
        bend = (flow + self.flows[side] * np.float32(beyond.away)) * np.float32(2 / (beyond.away**2 + beyond.away))
        around, known = (cv2.blur(x, (self.agree_px, self.agree_px)) for x in (bend * trust[..., None], trust))
        return np.asarray(around * (known / (np.square(known) + UNSURE**2))[..., None], dtype=np.float32)

    def _judged(
        self, first: Bytes, second: Bytes, motion: Field, motions: tuple[Field, Field], unknown: Plane | float
    ) -> tuple[Plane, Plane]:
        """For each cell of the grid how far moving is believed, and how sharp the result may be; 0 to 1."""
        difference = _difference(first, second)
        both = self._in_both(motions)
        apart, left, shown = (_blurred(plane, self.agree_px) for plane in (self.apart, difference * both, both))
        left /= shown + np.float32(0.01)  # beyond an edge of one picture the other one is believed
        # Of two guesses with errors of their own the best mixture weighs by inverse squares.
        # What moves unevenly is elsewhere than where both pictures agree that it is.
        pays = 1 / (1 + LEFT_WEIGHT * np.square(left / (apart + np.float32(0.01))) + BENT_WEIGHT * unknown)
        pays /= 1 + np.square(np.square(left / HOPELESS_LEVELS))
        pays *= 1 - np.exp(-apart / NOISE_LEVELS)  # noise and soft light look like motion, and stay where they are
        squared = np.square(motion * self.per_cell).sum(-1)
        sharpness = np.exp(-_blurred(difference, self.sharp_px) / SHARP_LEVELS)
        return pays * (1 - np.exp(-squared / STILL_PX**2)), sharpness

    def _in_both(self, motions: tuple[Field, Field]) -> Plane:
        """1 for each cell that both pictures show, and 0 elsewhere."""
        rows, columns = self.grid
        inside = np.ones(self.grid, dtype=np.uint8)
        for motion in motions:
            places = motion + places_of(rows, columns)
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


def _curved(bends: list[Field], share: float) -> tuple[Field, Field]:
    """How far aside of a straight way to look, and by how much the bend itself is uncertain.

    Where one side tells of it, it counts as the same all the way: a parabola. Where both do, it goes evenly from one to
    the other, a cubic, and how much they differ is what is not known of it.
    """
    if len(bends) == 1:
        return bends[0] * np.float32(BENT_SHARE * share * (1 - share) / 2), bends[0]
    first, second = bends
    weight = BENT_TWICE * share * (1 - share) / 6
    return first * np.float32(weight * (2 - share)) + second * np.float32(weight * (1 + share)), first - second


def _mean(image: Bytes) -> Plane:
    """Mean over the channels."""
    return cv2.transform(image.astype(np.float32), np.full((1, 3), 1 / 3, dtype=np.float32))


def _difference(first: Bytes, second: Bytes) -> Plane:
    return _mean(cv2.absdiff(first, second))


def _blurred(plane: Plane, side_px: int) -> Plane:
    return cv2.blur(plane, (side_px, side_px))


def _mixed(first: Image, second: Image, weight: Plane) -> Image:
    """By the first one's weight of `WHOLE`."""
    return cv2.blendLinear(first, second, weight, _rest(weight))


def _rest(weight: Plane) -> Plane:
    return np.float32(WHOLE) - weight


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
