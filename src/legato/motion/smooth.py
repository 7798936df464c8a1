"""Smoothing over time along motion: flicker goes, what moves stays where it is and as sharp as it was.

For videos that were made, whose frames do not quite agree. Each frame is averaged with those around it, moved along
optical flow to where its content is; frames that are given are looked at and never changed.
"""

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor

from legato.errors import BadArgument
from legato.motion.flow import DisFlow, FlowEstimator
from legato.motion.warp import places_of
from legato.video.frames import Frames
from legato.video.pixels import pixels_of_rows, rows_of_pixels
from legato.video.prefetch import mapped

__all__ = ["check_reach", "smoothed"]

UNLIKE_LEVELS = 12.0  # grey levels of difference at which a moved frame counts for a third
MOST_REACH_SECONDS = 0.5
SEEN_FROM = 2.0  # so many times the reach away frames are still looked at

Image = UInt8[np.ndarray, "height width 3"]


def smoothed(
    frames: Frames,
    given: Bool[Tensor, " frames"],
    *,
    reach_seconds: float,
    estimator: FlowEstimator = DisFlow("finest"),  # noqa: B008 - immutable
    threads: int = 1,
) -> Frames:
    """Frames averaged along their motion, in the manner of a bilateral filter.

    A frame `dt` away counts exp(-(dt / reach)^2 / 2), and less where, moved along the flow, it differs from the frame
    itself: where flow is wrong, or something is covered, a place stays as it is.

    Args:
        frames: with their times.
        given: frames that stay bit for bit.
        reach_seconds: over 0, up to 0.5. 0.04 reaches to the neighbours at 24 frames a second.
        estimator: of the flow between two frames.
        threads: frames smoothed at a time; the result is the same.

    Returns:
        As many frames at the same times.

    Raises:
        BadArgument: the reach is out of range, or `given` does not say something of each frame.
    """
    check_reach(reach_seconds)
    if len(given) != len(frames):
        raise BadArgument(f"given speaks of {len(given)} frames; there are {len(frames)}")
    pictures, seconds = [rows_of_pixels(picture) for picture in frames.pixels], frames.seconds.numpy()

    def steadied(at: int) -> Tensor:
        if given[at]:
            return frames.pixels[at]
        apart = np.abs(seconds - seconds[at]) / reach_seconds
        near = [int(n) for n in np.flatnonzero(apart <= SEEN_FROM) if n != at]
        total, weights = pictures[at].astype(np.float32), np.ones(pictures[at].shape[:2], dtype=np.float32)
        for other in near:
            flow = estimator(frames.pixels[at], frames.pixels[other]).permute(1, 2, 0).cpu().numpy()
            moved, weight = _brought(pictures[other], pictures[at], flow)
            weight *= np.float32(np.exp(-(apart[other] ** 2) / 2))
            total += weight[..., None] * moved
            weights += weight
        return pixels_of_rows(np.clip(np.rint(total / weights[..., None]), 0, 255).astype(np.uint8))

    made = list(mapped(steadied, range(len(frames)), threads))
    return Frames(torch.stack(made) if made else frames.pixels, frames.pts, frames.time_base)


def check_reach(seconds: float) -> None:
    """Raise `BadArgument` where smoothing cannot reach so far."""
    if not 0 < seconds <= MOST_REACH_SECONDS:
        raise BadArgument(
            f"smoothing reaches over {seconds:g} s; expected more than 0 and up to {MOST_REACH_SECONDS:g}, as 0.04"
        )


def _brought(
    other: Image, own: Image, flow: Float32[np.ndarray, "height width 2"]
) -> tuple[Float32[np.ndarray, "height width 3"], Float32[np.ndarray, "height width"]]:
    """Another frame as seen from the places of this one, and how far each place is to be believed."""
    height, width = own.shape[:2]
    places = flow + places_of(height, width)
    moved = cv2.remap(other.astype(np.float32), places, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    unlike = cv2.blur(np.abs(moved - own).mean(-1), (3, 3))
    seen = cv2.inRange(places, (0, 0, 0, 0), (width - 1, height - 1, 0, 0)) > 0
    return moved, np.exp(-np.square(unlike / UNLIKE_LEVELS)) * seen
