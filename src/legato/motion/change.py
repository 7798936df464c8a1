"""How much each token's picture changed against a reference picture.

A change is measured per patch of the encoder's grid, in units of the full pixel range (0 to 1), and
against the content at the token's last recomputation, so that slow drift cannot hide. Measures are
small immutable objects; `Relative` wraps one so that a dark film and a noisy webcam use the same
thresholds.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from legato.errors import BadArgument
from legato.video.pixels import rows_of_pixels

__all__ = [
    "ChangeMeasure",
    "ChangedShare",
    "MeanAbsolute",
    "NoiseFloor",
    "Relative",
    "RootMeanSquare",
    "dilate",
    "hierarchical_priority",
]

Picture = UInt8[Tensor, "3 height width"]
Reference = UInt8[Tensor, "3 reference_height reference_width"]  # its size is checked with a message
Grid = Float[Tensor, "rows columns"]


def patch_sums(image: np.ndarray, patch_px: int) -> np.ndarray:
    """Sum an image `(height, width)` or `(height, width, channels)` over patches, exactly.

    The integral image makes this independent of the patch size; channels are summed too.
    """
    sums = _boxes(cv2.integral(image)[::patch_px, ::patch_px])
    return sums.sum(-1) if sums.ndim == 3 else sums


def patch_square_sums(image: np.ndarray, patch_px: int) -> np.ndarray:
    """Sum the squares of `uint8 (height, width, channels)` over patches and channels, float32."""
    height, width, channels = image.shape
    parts = image.astype(np.float32).reshape(height // patch_px, patch_px, width // patch_px, patch_px * channels)
    return np.einsum("abcd,abcd->ac", parts, parts)


def check_pair(picture: Tensor, reference: Tensor, patch_px: int) -> None:
    """Raise `BadArgument` unless both pictures have one size, a multiple of the patch."""
    if picture.shape != reference.shape:
        raise BadArgument(
            f"picture is {tuple(picture.shape)} and reference {tuple(reference.shape)}; expected one size for both"
        )
    height, width = picture.shape[-2:]
    if patch_px < 1 or height % patch_px or width % patch_px:
        raise BadArgument(f"picture is {width}x{height}; expected multiples of the patch, {patch_px} px")


class ChangeMeasure(ABC):
    """Per-token change between a picture and a reference of equal size; 0 where they are equal."""

    @abstractmethod
    def __call__(self, picture: Picture, reference: Reference, patch_px: int, noise: float = 0.0) -> Grid:
        """Measure the change of each patch.

        Args:
            picture: RGB, `uint8 (3, height, width)`, sides multiples of the patch.
            reference: what to compare with, same shape.
            patch_px: side of a patch in pixels.
            noise: root mean square difference that the picture's noise alone makes, 0 to 1; measures
                that do not model noise leave it out.

        Returns:
            `float32 (rows, columns)`, at least 0.

        Raises:
            BadArgument: sizes differ or are no multiples of the patch.
        """


@dataclass(frozen=True)
class MeanAbsolute(ChangeMeasure):
    """Mean over a patch's pixels and channels of |difference|, 0 to 1."""

    def __call__(self, picture: Picture, reference: Reference, patch_px: int, noise: float = 0.0) -> Grid:
        """See `ChangeMeasure`."""
        check_pair(picture, reference, patch_px)
        difference = cv2.absdiff(rows_of_pixels(picture), rows_of_pixels(reference))
        return torch.from_numpy(patch_sums(difference, patch_px).astype(np.float32) / (3 * 255 * patch_px**2))


@dataclass(frozen=True)
class RootMeanSquare(ChangeMeasure):
    """Root of the mean over a patch's pixels and channels of the squared difference, 0 to 1."""

    def __call__(self, picture: Picture, reference: Reference, patch_px: int, noise: float = 0.0) -> Grid:
        """See `ChangeMeasure`."""
        check_pair(picture, reference, patch_px)
        difference = cv2.absdiff(rows_of_pixels(picture), rows_of_pixels(reference))
        mean = patch_square_sums(difference, patch_px) / (3 * 255**2 * patch_px**2)
        return torch.from_numpy(np.sqrt(mean))


@dataclass(frozen=True)
class ChangedShare(ChangeMeasure):
    """Share of a patch's pixels whose RGB distance to the reference exceeds a threshold, 0 to 1.

    Attributes:
        distance: Euclidean RGB distance, of 255 per channel, above which a pixel has changed. 10 is the
            classic value, with 10 % of a patch's pixels as the threshold on the result.
    """

    distance: float = 10.0

    def __call__(self, picture: Picture, reference: Reference, patch_px: int, noise: float = 0.0) -> Grid:
        """See `ChangeMeasure`."""
        check_pair(picture, reference, patch_px)
        difference = cv2.absdiff(rows_of_pixels(picture), rows_of_pixels(reference)).astype(np.float32)
        changed = (np.einsum("hwc,hwc->hw", difference, difference) > self.distance**2).astype(np.uint8)
        return torch.from_numpy(patch_sums(changed, patch_px).astype(np.float32) / patch_px**2)


@dataclass(frozen=True)
class Relative(ChangeMeasure):
    """Root mean square change beyond the noise, relative to the patch's own contrast.

    What a change does to a vision transformer's features depends on the contrast that it disturbs: the
    same difference weighs more on a plain wall or in a dark scene than on foliage. So the change is divided
    by the patch's standard deviation (plus a floor that keeps flat patches finite), after the variance
    that the picture's noise alone explains is taken off. Neighbours count in, because attention lets a
    token see them. The form and the constants were chosen by how well they predict the change of trained
    features; see docs/experiments.md.

    Attributes:
        contrast_floor: standard deviation added to the patch's own, 0 to 1.
        neighbours: weight of the mean over the 3 x 3 tokens around.
        noise_margin: how many times the noise's variance is taken off; over 1, since the noise in a patch
            scatters about its mean.
    """

    contrast_floor: float = 16 / 255
    neighbours: float = 0.5
    noise_margin: float = 1.5

    def __call__(self, picture: Picture, reference: Reference, patch_px: int, noise: float = 0.0) -> Grid:
        """See `ChangeMeasure`."""
        check_pair(picture, reference, patch_px)
        image = rows_of_pixels(picture)
        pixels = patch_px**2
        squares = patch_square_sums(cv2.absdiff(image, rows_of_pixels(reference)), patch_px) / (3 * 255**2 * pixels)
        change = np.sqrt(np.maximum(squares - self.noise_margin * noise**2, 0))
        change += self.neighbours * cv2.blur(change, (3, 3), borderType=cv2.BORDER_REFLECT_101)
        sums, squared_sums = cv2.integral2(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
        mean, mean_square = (_boxes(i[::patch_px, ::patch_px]) / pixels for i in (sums, squared_sums))
        contrast = np.sqrt(np.maximum(mean_square - mean**2, 0)) / 255
        return torch.from_numpy((change / (contrast + self.contrast_floor)).astype(np.float32))


@dataclass(frozen=True)
class NoiseFloor:
    """Running estimate of a stream's noise from neighbouring frames.

    In nearly every frame some tokens show nothing new; what changes there is noise (sensor or codec). The
    estimate is a low quantile over tokens of the root mean square change between neighbouring frames,
    which fades in with a time constant and is capped, so that a picture that moves everywhere is not
    taken for a noisy one.

    Attributes:
        quantile: which quantile over tokens is taken for noise.
        time_constant_seconds: how fast the estimate follows.
        cap: largest noise that is believed, 0 to 1.
    """

    quantile: float = 0.1
    time_constant_seconds: float = 0.5
    cap: float = 6 / 255

    def step(
        self, picture: Picture, previous: Reference, patch_px: int, noise: float, elapsed_seconds: float
    ) -> tuple[float, float]:
        """Follow one frame further.

        Args:
            picture: the newest picture, `uint8 (3, height, width)`.
            previous: the one before.
            patch_px: side of a patch in pixels.
            noise: the estimate so far.
            elapsed_seconds: time between the two pictures.

        Returns:
            The new estimate, and the mean absolute difference of the two pictures (how much moves), both
            on a scale where 1 is the full pixel range.
        """
        check_pair(picture, previous, patch_px)
        difference = cv2.absdiff(rows_of_pixels(picture), rows_of_pixels(previous))
        motion = cv2.norm(difference, cv2.NORM_L1) / (255 * difference.size)
        per_token = np.sqrt(patch_square_sums(difference, patch_px) / (3 * 255**2 * patch_px**2))
        index = int(self.quantile * (per_token.size - 1))
        now = min(float(np.partition(per_token, index, axis=None)[index]), self.cap)
        fade = math.exp(-elapsed_seconds / self.time_constant_seconds)
        return noise * fade + now * (1 - fade), motion


def dilate(selected: Bool[Tensor, "rows columns"], tokens: int) -> Bool[Tensor, "rows columns"]:
    """Grow a selection by this many tokens in every direction, diagonals included."""
    if tokens == 0:
        return selected.clone()
    side = 2 * tokens + 1
    return F.max_pool2d(selected[None, None].float(), side, stride=1, padding=tokens)[0, 0] > 0


def hierarchical_priority(change: Grid, weights: tuple[float, float, float] = (1.0, 2.0, 4.0)) -> Grid:
    """Mix a change map with its means over 2 x 2 and 4 x 4 tokens into one priority per token.

    Args:
        change: per-token change, `(rows, columns)`.
        weights: what the coarse (4 x 4), middle (2 x 2) and fine (1 x 1) scale count.

    Returns:
        Weighted mean of the three scales, `float32 (rows, columns)`; all zeros for an unchanged frame.

    Raises:
        BadArgument: weights are negative or all 0.
    """
    if min(weights) < 0 or not sum(weights):
        raise BadArgument(f"weights are {weights}; expected three that are not negative and not all 0")
    rows, columns = change.shape
    total = torch.zeros_like(change)
    for weight, side in zip(weights, (4, 2, 1), strict=True):
        coarse = F.avg_pool2d(change[None, None], side, ceil_mode=True, count_include_pad=False)
        total += weight * coarse[0, 0].repeat_interleave(side, 0).repeat_interleave(side, 1)[:rows, :columns]
    return total / sum(weights)


def _boxes(integral: np.ndarray) -> np.ndarray:
    """Box sums between neighbouring points of a subsampled integral image."""
    return integral[1:, 1:] - integral[:-1, 1:] - integral[1:, :-1] + integral[:-1, :-1]
