"""How much of one picture is still there in another: correlation, and the share of pixels that stay."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from legato.errors import BadArgument
from legato.video.pixels import rows_of_pixels

__all__ = ["COHERENT_OVER", "INCOHERENT_UNDER", "Coherence", "coherence", "correlation", "unchanged_share"]

Picture = UInt8[Tensor, "3 height width"]
Reference = UInt8[Tensor, "3 other_height other_width"]

COHERENT_OVER = 0.8
INCOHERENT_UNDER = 0.5
STILL_DISTANCE = 10.0


@dataclass(frozen=True)
class Coherence:
    """What two pictures have in common.

    Attributes:
        correlation: Pearson's, -1 to 1; see `correlation`.
        unchanged_share: share of pixels that stay, 0 to 1; see `unchanged_share`.
        difference: mean absolute difference of pixel values, 0 to 1 (the full range).
        largest_difference: of any one pixel value, 0 to 1.
    """

    correlation: float
    unchanged_share: float
    difference: float
    largest_difference: float

    @property
    def band(self) -> str:
        """`coherent` over a correlation of 0.8, `incoherent` under 0.5, `between` otherwise."""
        if self.correlation > COHERENT_OVER:
            return "coherent"
        return "incoherent" if self.correlation < INCOHERENT_UNDER else "between"


def coherence(picture: Picture, reference: Reference, *, distance: float = STILL_DISTANCE) -> Coherence:
    """Compare two pictures in every way of this module at once.

    Raises:
        BadArgument: the sizes differ, or `distance` is negative.
    """
    image, other = _pair(picture, reference, distance)
    apart = cv2.absdiff(image, other)
    return Coherence(
        _correlation(image, other),
        _unchanged_share(apart, distance),
        cv2.norm(apart, cv2.NORM_L1) / (255 * apart.size),
        int(apart.max()) / 255,
    )


def correlation(picture: Picture, reference: Reference) -> float:
    """Pearson correlation of all pixel values, the three channels together.

    A change of brightness or contrast of the whole picture leaves it at 1. Where it is undefined, two pictures of
    one value each count as alike (1), and such a picture and any other as unlike (0).

    Raises:
        BadArgument: the sizes differ.
    """
    return _correlation(*_pair(picture, reference))


def unchanged_share(picture: Picture, reference: Reference, *, distance: float = STILL_DISTANCE) -> float:
    """Share of pixels, 0 to 1, whose RGB value moved by at most `distance` (Euclidean, of 255 per channel).

    0 counts only what is equal to the bit; the default lets the usual noise of cameras and codecs pass.

    Raises:
        BadArgument: the sizes differ, or `distance` is negative.
    """
    return _unchanged_share(cv2.absdiff(*_pair(picture, reference, distance)), distance)


def _pair(picture: Picture, reference: Reference, distance: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    if picture.shape != reference.shape or not picture.numel():
        raise BadArgument(
            f"picture is {tuple(picture.shape)} and reference {tuple(reference.shape)}; "
            "expected one size, (3, height, width) and not empty, for both"
        )
    if distance < 0:
        raise BadArgument(f"distance is {distance}; expected 0 or more, for example {STILL_DISTANCE:g}")
    return rows_of_pixels(picture), rows_of_pixels(reference)


def _correlation(image: np.ndarray, other: np.ndarray) -> float:
    # All sums are whole numbers under 2**53, so float64 holds them exactly, and Python's integers the products. A dot
    # product in NumPy would wake BLAS threads that spin on while others want to work.
    count, sum_a, sum_b = image.size, int(cv2.norm(image, cv2.NORM_L1)), int(cv2.norm(other, cv2.NORM_L1))
    squares_a, squares_b = (int(cv2.norm(side, cv2.NORM_L2SQR)) for side in (image, other))
    product = (squares_a + squares_b - int(cv2.norm(image, other, cv2.NORM_L2SQR))) // 2
    variance_a, variance_b = count * squares_a - sum_a**2, count * squares_b - sum_b**2
    if not variance_a or not variance_b:
        return 1.0 if variance_a == variance_b else 0.0
    return (count * product - sum_a * sum_b) / math.sqrt(variance_a * variance_b)


def _unchanged_share(apart: np.ndarray, distance: float) -> float:
    wide = apart.astype(np.int32)
    squares = np.einsum("hwc,hwc->hw", wide, wide)
    return int(np.count_nonzero(squares <= distance**2)) / squares.size
