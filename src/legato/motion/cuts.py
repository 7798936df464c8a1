"""Where a new shot begins, found on a stream one frame at a time.

A detector is immutable; what it knows about a stream goes in and comes out as a small state of tensors
and numbers: `step = detector.step(frame, state)`, then `step.state`. A frame that breaks with the one
before is *proposed* at once; it is *confirmed* as a cut when the detector is sure, which for
`AdaptiveCuts` is two frames later, because a camera flash looks like a cut until it is over.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from legato.errors import BadArgument
from legato.video.frames import Frame

__all__ = [
    "AdaptiveCuts",
    "AdaptiveState",
    "Cut",
    "CutDetector",
    "CutStep",
    "OfflineCutDetector",
    "detect_cuts",
    "unexplained",
]

State = TypeVar("State")
Picture = UInt8[Tensor, "3 height width"]


@dataclass(frozen=True)
class Cut:
    """The first frame of a new shot.

    Attributes:
        frame: how many frames the detector saw before this one.
        seconds: its presentation time.
    """

    frame: int
    seconds: float


@dataclass(frozen=True)
class CutStep(Generic[State]):
    """What a detector says on one frame.

    Attributes:
        state: to be given with the next frame.
        score: how much this frame breaks with the one before; 0 for the first. The scale is the detector's own.
        proposed: this frame breaks with the one before and may begin a shot: whatever relies on the past should
            start over now. True on the way into a flash and on the way out of it.
        confirmed: a cut that is certain now; it may lie one or two frames back.
    """

    state: State
    score: float
    proposed: bool
    confirmed: Cut | None


@runtime_checkable
class CutDetector(Protocol):
    """Finds cuts on a stream: state in, state out; `None` begins a stream."""

    def step(self, frame: Frame, state: Any | None = None) -> CutStep[Any]:
        """Look at the next frame of the stream that `state` belongs to."""
        ...

    def finish(self, state: Any) -> Cut | None:
        """The cut, if any, that was still waiting for more frames when the stream ended."""
        ...


@runtime_checkable
class OfflineCutDetector(Protocol):
    """Finds cuts on a whole video at once."""

    def detect(self, frames: Iterable[Frame]) -> list[Cut]:
        """Every cut of the video, in order."""
        ...


def detect_cuts(frames: Iterable[Frame], detector: CutDetector | OfflineCutDetector) -> list[Cut]:
    """Find every cut of a video, in order; the first frame is not a cut."""
    if isinstance(detector, OfflineCutDetector):
        return detector.detect(frames)
    cuts: list[Cut | None] = []
    state = None
    for frame in frames:
        step = detector.step(frame, state)
        state = step.state
        cuts.append(step.confirmed)
    if state is not None:
        cuts.append(detector.finish(state))
    return [cut for cut in cuts if cut is not None]


THUMB_ROWS, THUMB_COLUMNS = 24, 32
CELL_PX, REACH_PX = 8, 3
NOISE_LEVELS, FAINT_LEVELS = 2.0, 20.0
LEAST_ROOM = 0.15
Thumbnail = UInt8[Tensor, "24 32 3"]


def unexplained(before: Thumbnail, after: Thumbnail) -> float:
    """How much of a picture the one before does not explain: near 0 the same shot, about 1 an unrelated one.

    Each 8 x 8 cell of `after` is looked for in `before` within 3 pixels (an eighth of the height, a tenth of the
    width), so that panning and moving things are explained. The score is the root mean square difference of the
    best match, averaged over cells. Both pictures are first brought to mean 0 and contrast 1, so that light that
    goes up or down is explained, too; contrast under about 2 grey levels is taken for noise and not amplified.
    Where one picture is next to empty and the other faint, as on the last step of a fade, the score is lowered.
    """
    (reference, contrast_before), (picture, contrast_after) = _standardised(before), _standardised(after)
    reach = REACH_PX
    reference = cv2.copyMakeBorder(reference, reach, reach, reach, reach, borderType=cv2.BORDER_REPLICATE)
    residuals = []
    for y in range(0, THUMB_ROWS, CELL_PX):
        for x in range(0, THUMB_COLUMNS, CELL_PX):
            cell = picture[y : y + CELL_PX, x : x + CELL_PX]
            around = reference[y : y + CELL_PX + 2 * reach, x : x + CELL_PX + 2 * reach]
            squares = cv2.matchTemplate(around, cell, cv2.TM_SQDIFF)
            residuals.append(math.sqrt(max(float(squares.min()), 0.0) / cell.size))
    fainter, stronger = sorted((contrast_before, contrast_after))
    visible = min(stronger / FAINT_LEVELS, 1.0) if fainter < stronger / 4 else 1.0
    return visible * sum(residuals) / len(residuals)


@dataclass(frozen=True)
class Candidate:
    """A possible cut that waits for the frames after it.

    Attributes:
        cut: where it would be.
        score: of its first frame.
        old: the last frame of the old shot.
        before: scores of the frames just before.
        after: scores of the frames since.
    """

    cut: Cut
    score: float
    old: Thumbnail
    before: tuple[float, ...]
    after: tuple[float, ...] = ()


@dataclass(frozen=True)
class AdaptiveState:
    """What `AdaptiveCuts` knows of a stream: under 5 kB.

    Attributes:
        seen: frames so far.
        seconds: time of the last frame.
        thumbnail: the last frame.
        recent: scores of the last frames.
        usual: running mean of the scores that were not a cut's.
        trust: how much of its time constant that mean has seen, 0 to 1.
        candidate: a possible cut a few frames back.
    """

    seen: int
    seconds: float
    thumbnail: Thumbnail
    recent: tuple[float, ...] = ()
    usual: float = 0.0
    trust: float = 0.0
    candidate: Candidate | None = None


@dataclass(frozen=True)
class AdaptiveCuts:
    """The default: a frame that motion does not explain, stands out from its surroundings, and stays.

    The score is `unexplained`. A frame is proposed when its score is over `usual + share * (1 - usual)`: it takes up
    at least that share of the room between what motion usually leaves unexplained and 1. The proposal then has to
    last: it is dropped if the old shot is back within `look_ahead_frames` (a flash, a broken frame), and if it does
    not stand out in the same way from as many frames before and after it (a burst of motion).

    Finds hard cuts. Fades and dissolves pass, and so does a change of light. What nobody can tell from two pictures
    alone stays open: a shot of one frame counts as a broken one, an insert of up to `look_ahead_frames` as a flash,
    and a whip pan over a whole view within two frames as a cut.

    Args:
        share: of the room above usual, between 0 and 1.
        usual_seconds: time constant of the running mean.
        look_ahead_frames: how long a new shot must last to be believed, beyond its first frame.

    Raises:
        BadArgument: an argument is out of range; or, from `step`, a frame comes before the one that precedes it.
    """

    share: float = 0.5
    usual_seconds: float = 0.5
    look_ahead_frames: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise BadArgument(f"share is {self.share}; expected a number between 0 and 1")
        if self.usual_seconds <= 0 or self.look_ahead_frames < 1:
            raise BadArgument(
                f"usual_seconds is {self.usual_seconds} and look_ahead_frames is {self.look_ahead_frames}; "
                "expected more than 0 seconds and at least 1 frame"
            )

    def step(self, frame: Frame, state: AdaptiveState | None = None) -> CutStep[AdaptiveState]:
        """Look at the next frame; a cut is confirmed `look_ahead_frames` after its first frame."""
        thumbnail = _thumbnail(frame.pixels)
        if state is None:
            return CutStep(AdaptiveState(1, frame.seconds, thumbnail), 0.0, False, None)
        passed_seconds = frame.seconds - state.seconds
        if passed_seconds < 0:
            raise BadArgument(
                f"the frame at {frame.seconds:g} s comes after the one at {state.seconds:g} s; "
                "give frames in order, and begin with state None after a seek"
            )
        score = unexplained(state.thumbnail, thumbnail)
        limit = self._limit(state.usual)
        recent = (*state.recent, score)[-self.look_ahead_frames :]
        waiting, confirmed = state.candidate, None
        motion: tuple[float, ...] = ()  # scores that turn out to be no cut's
        here = None
        if score > limit:
            here = Candidate(Cut(state.seen, frame.seconds), score, state.thumbnail, state.recent)
        if waiting is None:
            motion = () if here else (score,)
        elif unexplained(waiting.old, thumbnail) <= limit:  # the old shot is back
            here, recent = None, ()
        elif here and waiting.after:
            confirmed, motion = self._verdict(waiting)
        elif here:  # the candidate lasted one frame
            motion = (waiting.score,)
        else:
            waiting = replace(waiting, after=(*waiting.after, score))
            if len(waiting.after) < self.look_ahead_frames:
                here = waiting
            else:
                confirmed, motion = self._verdict(waiting)
        usual, trust = self._learned(state, motion, passed_seconds)
        after = AdaptiveState(state.seen + 1, frame.seconds, thumbnail, recent, usual, trust, here)
        return CutStep(after, score, score > limit, confirmed)

    def finish(self, state: AdaptiveState) -> Cut | None:
        """The candidate of the last frames, if nothing speaks against it."""
        return self._verdict(state.candidate)[0] if state.candidate else None

    def _limit(self, usual: float) -> float:
        return usual + max(self.share * (1 - usual), LEAST_ROOM)

    def _verdict(self, waiting: Candidate) -> tuple[Cut | None, tuple[float, ...]]:
        """The cut, if it stands out from the frames on both sides, and the scores that were motion."""
        if all(waiting.score > self._limit(_mean(scores)) for scores in (waiting.before, waiting.after)):
            return waiting.cut, waiting.after
        return None, (waiting.score, *waiting.after)

    def _learned(self, state: AdaptiveState, motion: tuple[float, ...], passed_seconds: float) -> tuple[float, float]:
        """`usual` and `trust` after more scores; a plain mean at first, fading with time later on."""
        usual, trust = state.usual, state.trust
        fresh = -math.expm1(-passed_seconds / self.usual_seconds)
        for score in motion:
            trust += (1 - trust) * fresh
            usual += (score - usual) * (fresh / trust if trust else 0.0)
        return usual, trust


# --- parts


def _mean(scores: tuple[float, ...]) -> float:
    return sum(scores) / max(len(scores), 1)


def _thumbnail(pixels: Picture) -> Thumbnail:
    """24 x 32 means over equal blocks of pixels; up to a block's width is cut off at the edges.

    OpenCV averages whole pixels many times as fast as parts of them. Of a tall picture only every n-th row counts.
    """
    picture = pixels.detach().cpu().numpy()[:, :: max(pixels.shape[1] // (8 * THUMB_ROWS), 1)]
    _, height, width = picture.shape
    rows, columns = height // THUMB_ROWS * THUMB_ROWS, width // THUMB_COLUMNS * THUMB_COLUMNS
    if rows and columns:
        top, left = (height - rows) // 2, (width - columns) // 2
        picture = picture[:, top : top + rows, left : left + columns]
    size = (THUMB_COLUMNS, THUMB_ROWS)
    if picture.strides[0] == 1:  # channels last, as decoders give them
        return torch.from_numpy(cv2.resize(picture.transpose(1, 2, 0), size, interpolation=cv2.INTER_AREA))
    return torch.from_numpy(np.stack([cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in picture], -1))


def _standardised(thumbnail: Thumbnail) -> tuple[np.ndarray, float]:
    """The picture with mean 0 and contrast near 1, and its contrast in grey levels."""
    picture = thumbnail.numpy().astype(np.float32)
    picture -= picture.mean()
    contrast = math.sqrt(float((picture * picture).mean()))
    return picture / np.float32(math.hypot(contrast, NOISE_LEVELS)), contrast
