"""The picture side of following a stream: what changed, what is planned. The encoder is not needed for it."""

import time
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from legato.motion.change import ChangeMeasure, NoiseFloor
from legato.motion.cuts import Cut, CutDetector
from legato.reuse.plan import Look, Plan
from legato.reuse.policy import Policy
from legato.video.frames import Frame
from legato.video.pixels import pixels_of_rows, rows_of_pixels

__all__ = ["Lookout", "Sight", "Track", "fitted", "patches"]

Picture = UInt8[Tensor, "3 height width"]

FULL_ABOVE = 0.9  # a partial pass over more than this share of the tokens costs what a full one does
PASSED_AFTER = 3  # full frames in a row; what comes then is passed through without keeping keys and values


@dataclass(frozen=True, eq=False)
class Track:
    """What is remembered of a stream's pictures and times.

    Attributes:
        seconds: time of the newest frame.
        source_size_px: height and width of the newest frame before resizing.
        reference: per patch the picture at the token's last recomputation.
        previous: the newest picture.
        recomputed_at: seconds of each patch token's last recomputation.
        turnover: how many tokens partial frames have recomputed so far, in whole pictures.
        turnover_at: the turnover at each patch token's last recomputation.
        noise: running noise floor of the picture, 0 to 1.
        fulls: how many frames up to the newest were recomputed in full one after the other.
        cuts: the cut detector's own state.
    """

    seconds: float
    source_size_px: tuple[int, int]
    reference: Picture
    previous: Picture
    recomputed_at: Float64[Tensor, " tokens"]
    turnover: float
    turnover_at: Float64[Tensor, " tokens"]
    noise: float
    fulls: int
    cuts: Any

    @property
    def passed(self) -> bool:
        """Whether reuse does not pay at the moment: nothing is kept that a partial frame could build on."""
        return self.fulls > PASSED_AFTER


@dataclass(frozen=True, eq=False)
class Sight:
    """What was seen in one frame, and what is to be done.

    Attributes:
        picture: the frame at the encoder's size.
        plan: which tokens to recompute.
        change: change of each token since its last recomputation; zeros where a stream starts.
        motion: mean absolute difference to the previous picture, 0 to 1; 0 where a stream starts.
        cut: a cut that is certain now; it may lie a frame or two back.
        track: what is remembered for the next frame, as if the plan were done.
        look_seconds: wall time of looking.
    """

    picture: Picture
    plan: Plan
    change: Float[Tensor, "rows columns"]
    motion: float
    cut: Cut | None
    track: Track
    look_seconds: float


@dataclass(frozen=True)
class Lookout:
    """Looks at frames and makes plans.

    Attributes:
        size_px: height and width that frames are resized to.
        patch_px: side of a patch.
        policy: which tokens to recompute.
        measure: how change is measured.
        noise_floor: how noise is followed.
        cuts: detector whose proposals start the stream over, or None.
    """

    size_px: tuple[int, int]
    patch_px: int
    policy: Policy
    measure: ChangeMeasure
    noise_floor: NoiseFloor
    cuts: CutDetector | None

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patch tokens."""
        return self.size_px[0] // self.patch_px, self.size_px[1] // self.patch_px

    def look(self, frame: Frame, track: Track | None, refresh: str = "") -> Sight:
        """Look at the next frame of a stream.

        Args:
            frame: any size.
            track: what the look at the frame before returned; None starts a stream.
            refresh: why everything is to be recomputed, whatever the policy says; empty to leave it to the policy.
        """
        started = time.perf_counter()
        picture = fitted(frame, self.size_px)
        why_full = why_start_over(frame, track)
        past = None if why_full else track
        cuts = cut = None
        if self.cuts is not None:
            seen = self.cuts.step(replace(frame, pixels=picture), past.cuts if past else None)
            cuts, cut = seen.state, seen.confirmed
            if past and seen.proposed:
                why_full = "cut"
        if refresh and not why_full:
            why_full = refresh
        change, noise, motion = torch.zeros(self.grid), 0.0, 0.0
        if past:
            elapsed = frame.seconds - past.seconds
            noise, motion = self.noise_floor.step(picture, past.previous, self.patch_px, past.noise, elapsed)
            change = self.measure(picture, past.reference, self.patch_px, noise)
        if why_full or past is None:
            plan = Plan.full(change.numel(), why_full or "cold start")
        else:
            times, turnovers = past.recomputed_at.view(self.grid), past.turnover_at.view(self.grid)
            look = Look(frame.seconds, change, times, past.turnover, turnovers)
            plan = Plan.of(self.policy.select(look), FULL_ABOVE)
        fulls = past.fulls if past else 0
        if plan.mode == "full":
            fulls = 0 if refresh else fulls + 1
        elif plan.mode == "partial":
            if past and past.passed:
                plan = Plan.full(change.numel(), "reuse pays again")
            fulls = 0
        turnover = past.turnover if past else 0.0
        if plan.mode == "full" or past is None:
            reference = picture
            recomputed_at = torch.full((change.numel(),), frame.seconds, dtype=torch.float64)
            turnover_at = torch.full_like(recomputed_at, turnover)
        else:
            reference = with_patches(past.reference, picture, plan.tokens, self.patch_px)
            recomputed_at = past.recomputed_at.index_fill(0, plan.tokens, frame.seconds)
            turnover_at = past.turnover_at.index_fill(0, plan.tokens, turnover)
            turnover += len(plan.tokens) / change.numel()
        source_size = (frame.height, frame.width)
        after = Track(
            frame.seconds, source_size, reference, picture, recomputed_at, turnover, turnover_at, noise, fulls, cuts
        )
        return Sight(picture, plan, change, motion, cut, after, time.perf_counter() - started)


def why_start_over(frame: Frame, track: Track | None) -> str | None:
    """Why a frame cannot build on the past, or None where it can."""
    if track is None:
        return "cold start"
    if frame.seconds <= track.seconds:
        return "seek"
    if (frame.height, frame.width) != track.source_size_px:
        return "resolution change"
    return None


def fitted(frame: Frame, size_px: tuple[int, int]) -> Picture:
    """A frame's picture resized to (height, width), the whole of it; as it is where it has that size."""
    if (frame.height, frame.width) == size_px:
        return frame.pixels
    image = rows_of_pixels(frame.pixels)
    while (smaller := tuple(_halved(*pair) for pair in zip(image.shape[:2], size_px, strict=True))) != image.shape[:2]:
        # by two, a bilinear sample is the mean of what it stands for, and costs a fraction of shrinking by areas
        image = cv2.resize(image, smaller[::-1], interpolation=cv2.INTER_LINEAR)
    shrinks = image.shape[0] >= size_px[0] and image.shape[1] >= size_px[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR  # bilinear would make moire of fine stripes
    return pixels_of_rows(cv2.resize(image, size_px[::-1], interpolation=method))


def _halved(size: int, wanted: int) -> int:
    """Half a size, where that is whole and not too small."""
    return size // 2 if size % 2 == 0 and size >= 2 * wanted else size


def grid_of(picture: Picture, patch_px: int) -> np.ndarray:
    """View a channels-last picture as patches `(rows, columns, patch, patch, 3)`."""
    image = picture.permute(1, 2, 0).numpy()
    height, width, _ = image.shape
    return image.reshape(height // patch_px, patch_px, width // patch_px, patch_px, 3).swapaxes(1, 2)


def patches(picture: Picture, tokens: Tensor, patch_px: int) -> UInt8[Tensor, "count 3 patch patch"]:
    """Gather the patches of some tokens."""
    grid = grid_of(picture, patch_px)
    rows, columns = np.divmod(tokens.numpy(), grid.shape[1])
    return torch.from_numpy(grid[rows, columns]).permute(0, 3, 1, 2)


def with_patches(picture: Picture, newer: Picture, tokens: Tensor, patch_px: int) -> Picture:
    """A picture with the patches of some tokens taken from a newer one; the picture itself stays as it is."""
    if not len(tokens):
        return picture
    copy = torch.from_numpy(np.array(picture.permute(1, 2, 0).numpy())).permute(2, 0, 1)
    grid = grid_of(copy, patch_px)
    rows, columns = np.divmod(tokens.numpy(), grid.shape[1])
    grid[rows, columns] = grid_of(newer, patch_px)[rows, columns]
    return copy
