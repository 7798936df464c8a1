"""Smoothing over time along motion: flicker goes, what moves stays where it is and as sharp as it was.

For videos that were made, whose frames do not quite agree. Each frame is averaged with those around it, moved along
optical flow to where its content is; frames that are given are looked at and never changed.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from legato.errors import BadArgument
from legato.motion.flow import LEAST_SIDE_PX, DisFlow, FlowEstimator
from legato.motion.warp import places_of
from legato.video.frames import Frame
from legato.video.pixels import pixels_of_rows, rows_of_pixels
from legato.video.prefetch import mapped

__all__ = ["check_reach", "smoothed"]

UNLIKE_LEVELS = 12.0  # grey levels of difference at which a moved frame counts for a third
MOST_REACH_SECONDS = 0.5
ROUNDING_SECONDS = 1e-9

Image = UInt8[np.ndarray, "height width 3"]


def smoothed(
    frames: Iterable[Frame],
    given: Iterable[bool],
    *,
    reach_seconds: float,
    estimator: FlowEstimator = DisFlow("finest"),  # noqa: B008 - immutable
    threads: int = 1,
) -> Iterator[Frame]:
    """Frames averaged along their motion, in the manner of a bilateral filter; made on the way.

    A frame `dt` away counts exp(-(dt / reach)^2 / 2), up to twice the reach, and less where, moved along the flow, it
    differs from the frame itself: where flow is wrong, or something is covered, a place stays as it is.

    Args:
        frames: in the order of their times.
        given: for each, whether it stays bit for bit.
        reach_seconds: over 0, up to 0.5. 0.04 reaches to the neighbours at 24 frames a second.
        estimator: of the flow between two frames.
        threads: frames smoothed at a time; the result is the same.

    Returns:
        As many frames at the same times.

    Raises:
        BadArgument: the reach is out of range, or frames are too small for optical flow.
    """
    check_reach(reach_seconds)

    def steady(job: tuple[Frame, list[Frame], bool]) -> Frame:
        own, around, stays = job
        if stays:
            return own
        if min(own.pixels.shape[-2:]) < LEAST_SIDE_PX:
            raise BadArgument(
                f"frames of {own.width}x{own.height} show no motion to smooth along; expected {LEAST_SIDE_PX} pixels a "
                "side or more: leave smoothing out"
            )
        picture = rows_of_pixels(own.pixels)
        total, weights = picture.astype(np.float32), np.ones(picture.shape[:2], dtype=np.float32)
        for other in around:
            flow = estimator(own.pixels, other.pixels).permute(1, 2, 0).cpu().numpy()
            moved, weight = _brought(rows_of_pixels(other.pixels), picture, flow)
            weight *= np.float32(np.exp(-(((other.seconds - own.seconds) / reach_seconds) ** 2) / 2))
            total += weight[..., None] * moved
            weights += weight
        made = np.clip(np.rint(total / weights[..., None]), 0, 255).astype(np.uint8)
        return replace(own, pixels=pixels_of_rows(made))

    jobs = ((*near, stays) for near, stays in zip(_surroundings(frames, 2 * reach_seconds), given, strict=True))
    return (frame for frame in mapped(steady, jobs, threads))


def _surroundings(frames: Iterable[Frame], span_seconds: float) -> Iterator[tuple[Frame, list[Frame]]]:
    """Each frame with those around it; no more are held than lie within twice the span."""
    held: list[Frame] = []
    number = 0
    span_seconds += ROUNDING_SECONDS
    for coming in itertools.chain(frames, [None]):
        held += [] if coming is None else [coming]
        while number < len(held) and (coming is None or coming.seconds - held[number].seconds > span_seconds):
            own = held[number]
            gone = sum(own.seconds - other.seconds > span_seconds for other in held[:number])
            del held[:gone]
            number += 1 - gone
            near = [other for other in held if other is not own and other.seconds - own.seconds <= span_seconds]
            yield own, near


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
