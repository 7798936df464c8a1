"""Look at a video once and say what it is: its times, cuts, coherence, motion, and what kind of content.

    with open_reduced("clip.mp4", SIDE_PX) as video:
        inspection = inspect_video(video)
    inspection.content, inspection.times.kind, inspection.warnings

Pictures are compared twice: each with its neighbour, which is what a model sees that runs on every frame, and over
steps of about 1/15 second, which is the same at 15, 30 and 60 frames per second. The guess of the content rests on
the steps and on seconds alone.
"""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from legato.errors import BadArgument
from legato.motion.coherence import coherence
from legato.motion.cuts import AdaptiveCuts, Cut, CutDetector
from legato.understand.pairs import STEP_SECONDS, Coherences, Motion, Tally
from legato.video.frame_times import FrameTimes, measured_times
from legato.video.frames import Frame
from legato.video.pixels import pixels_of_rows, rows_of_pixels, shrunk
from legato.video.read import Video, VideoInfo

__all__ = [
    "SIDE_PX",
    "Coherences",
    "Damage",
    "Inspection",
    "Inspector",
    "Motion",
    "guessed_content",
    "inspect_video",
]

SIDE_PX = 320
SAMPLE_SECONDS = 2.0


@dataclass(frozen=True)
class Damage:
    """What reading had to leave out (`frames_lost`), make up (`frames_concealed`) or mend (`times_repaired`)."""

    frames_lost: int = 0
    frames_concealed: int = 0
    times_repaired: int = 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know, a sentence or two on each kind."""
        told = []
        if self.frames_lost or self.frames_concealed:
            told.append(
                f"The file is damaged: {self.frames_lost} frames could not be decoded, {self.frames_concealed} are "
                "partly made up. Copy or record it again."
            )
        if self.times_repaired:
            told.append(
                f"{self.times_repaired} frame times were missing or did not rise, and were replaced. Write the video "
                "anew from a better source if exact times matter."
            )
        return tuple(told)


@dataclass(frozen=True)
class Inspection:
    """What one look at a video found.

    Attributes:
        info: what the file says about itself, None for frames that come from no file.
        whole: whether every frame of the file was looked at.
        frames: how many were looked at.
        start_seconds: time of the first one.
        times: statistics of the frame times.
        duplicates: frames that show the picture before them once more.
        cuts: first frames of new shots.
        cut_share: share of neighbouring frames of a sample (one frame every 2 s) that belong to different shots.
        neighbours: coherence of neighbouring frames.
        steps: coherence over steps of about 1/15 s inside shots.
        motion: how much moves.
        content: `webcam`, `conversation`, `sports`, `film` or `general`: a guess, see `guessed_content`.
        damage: what reading had to leave out.
        interrupted: whether the look was broken off.
    """

    info: VideoInfo | None
    whole: bool
    frames: int
    start_seconds: float
    times: FrameTimes
    duplicates: int
    cuts: tuple[Cut, ...]
    cut_share: float
    neighbours: Coherences
    steps: Coherences
    motion: Motion
    content: str
    damage: Damage = Damage()
    interrupted: bool = False

    @property
    def pictures_per_second(self) -> float | None:
        """Different pictures per second: the real rate where frames are repeated."""
        return self.times.rate and self.times.rate * (1 - self.duplicates / (self.frames - 1))

    @property
    def cuts_per_minute(self) -> float:
        """Cuts over the span looked at."""
        return 60 * len(self.cuts) / self.times.span_seconds if self.times.span_seconds else 0.0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know before using this video, each with what to do about it."""
        return tuple(_warnings(self))

    def summary(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and text, for JSON."""
        return {
            "file": _facts(self.info) if self.info else None,
            "whole": self.whole,
            "frames": self.frames,
            "start_seconds": self.start_seconds,
            "times": self.times.summary(),
            "duplicates": self.duplicates,
            "pictures_per_second": self.pictures_per_second,
            "cuts": [asdict(cut) for cut in self.cuts],
            "cuts_per_minute": self.cuts_per_minute,
            "cut_share": self.cut_share,
            "neighbours": asdict(self.neighbours),
            "steps": asdict(self.steps),
            "motion": asdict(self.motion),
            "content": self.content,
            "damage": asdict(self.damage),
            "interrupted": self.interrupted,
            "warnings": list(self.warnings),
        }


class Inspector:
    """Takes frames one by one and keeps a few numbers of each: about 100 bytes a frame, and two small pictures.

    Args:
        cuts: finds new shots.
        side_px: frames with a longer side are scaled down to it before they are looked at.
    """

    def __init__(self, cuts: CutDetector | None = None, side_px: int = SIDE_PX) -> None:
        if side_px < 16:
            raise BadArgument(f"side_px is {side_px}; expected at least 16 pixels")
        self._detector: CutDetector = cuts or AdaptiveCuts()
        self._side_px = side_px
        self._state: Any = None
        self._cuts: list[Cut] = []
        self._last: Frame | None = None
        self._anchor: Frame | None = None
        self._tick_seconds = 0.0
        self._seconds = array("d")
        self._neighbours = Tally()
        self._steps = Tally()

    @property
    def frames(self) -> int:
        """How many frames were taken."""
        return len(self._seconds)

    def add(self, frame: Frame) -> None:
        """Take the next frame.

        Raises:
            BadArgument: it does not come after the one before.
        """
        last, anchor = self._last, self._anchor
        if last is not None and frame.time <= last.time:
            raise BadArgument(f"{frame} does not come after {last}; give frames in order")
        pixels = pixels_of_rows(shrunk(rows_of_pixels(frame.pixels), self._side_px))
        small = Frame(pixels, frame.pts, frame.time_base)
        cut = self._detector.step(small, self._state)
        self._state = cut.state
        if cut.confirmed:
            self._cuts.append(cut.confirmed)
        self._tick_seconds = float(frame.time_base)
        self._seconds.append(frame.seconds)
        self._last = small
        if last is None or anchor is None or last.pixels.shape != small.pixels.shape:
            self._anchor = small
            return
        pair = coherence(small.pixels, last.pixels)
        self._neighbours.add(pair, last.seconds, frame.seconds)
        if small.seconds - anchor.seconds > 0.95 * STEP_SECONDS:  # times may be rounded
            step = pair if anchor is last else coherence(small.pixels, anchor.pixels)
            self._steps.add(step, anchor.seconds, frame.seconds)
            self._anchor = small

    def result(self, video: Video | None = None, *, whole: bool = False, interrupted: bool = False) -> Inspection:
        """What was found so far.

        Args:
            video: where the frames came from: its facts and its damage go into the result.
            whole: whether all of its frames were taken.
            interrupted: whether a user broke off.

        Raises:
            BadArgument: there was not one frame.
        """
        if not self.frames:
            raise BadArgument("there are no frames to inspect; give at least one")
        cuts, waiting = list(self._cuts), self._detector.finish(self._state)
        if waiting is not None:
            cuts.append(waiting)
        seconds = np.array(self._seconds)
        inside = ~self._steps.across([cut.seconds for cut in cuts])
        motion = self._steps.motion(inside)
        changes, pairs = _sampled(cuts, seconds)
        return Inspection(
            info=video.info if video else None,
            whole=whole,
            frames=self.frames,
            start_seconds=float(seconds[0]),
            times=measured_times(seconds, self._tick_seconds),
            duplicates=self._neighbours.repeats(),
            cuts=tuple(cuts),
            cut_share=changes / pairs if pairs else 0.0,
            neighbours=self._neighbours.coherences(),
            steps=self._steps.coherences(inside),
            motion=motion,
            content=guessed_content(motion, changes / pairs if changes > 1 else 0.0),  # one cut is no frequency
            damage=Damage(video.frames_lost, video.frames_concealed, video.times_repaired) if video else Damage(),
            interrupted=interrupted,
        )


def inspect_video(frames: Video | Iterable[Frame], *, cuts: CutDetector | None = None) -> Inspection:
    """Look at every frame of a video, or at frames in order of time; `open_reduced` is the fast way to read them.

    Raises:
        BadArgument: there are no frames, or they are out of order.
    """
    inspector = Inspector(cuts)
    for frame in frames:
        inspector.add(frame)
    return inspector.result(frames if isinstance(frames, Video) else None, whole=True)


def guessed_content(motion: Motion, cut_share: float) -> str:
    """A guess from how much moves and how often shots change; the numbers were set by eye on some thirty clips.

    A film cuts between more than one in five neighbours of a sample of frames. A webcam hardly moves. In a
    conversation pauses and gestures alternate, so that the peak stands out from the mean. In sports much of the
    picture moves all the time. What is none of these is general.

    Args:
        motion: of the shots.
        cut_share: share of neighbouring sampled frames that belong to different shots.
    """
    if cut_share > 0.2:
        return "film"
    if motion.mean < 0.05 and motion.peak < 0.25:
        return "webcam"
    if motion.mean > 0.19:
        return "sports"
    return "conversation" if motion.peak > 1.55 * motion.mean else "general"


# --- parts


def _sampled(cuts: list[Cut], seconds: np.ndarray) -> tuple[int, int]:
    """Of one frame every `SAMPLE_SECONDS`: neighbours that belong to different shots, and neighbours."""
    samples = np.arange(seconds[0], seconds[-1] + 1e-6, SAMPLE_SECONDS)
    shots = np.searchsorted([cut.seconds for cut in cuts], samples, side="right")
    return int(np.count_nonzero(np.diff(shots))), len(samples) - 1


def _facts(info: VideoInfo) -> dict[str, Any]:
    exact = {"sample_aspect_ratio": str(info.sample_aspect_ratio), "time_base": str(info.time_base)}
    return {**asdict(info), **exact, "declared_rate": float(info.declared_rate) if info.declared_rate else None}


def _warnings(found: Inspection) -> Iterator[str]:
    times, info, damage = found.times, found.info, found.damage
    if times.kind == "variable":
        yield (
            f"The frame rate varies: frames are shown for {1000 * (times.shortest_seconds or 0):.1f} to "
            f"{1000 * (times.longest_seconds or 0):.1f} ms. Use each frame's own time, never its number over a rate."
        )
    if times.gaps:
        first, count = times.gaps[0], len(times.gaps)
        yield (
            f"{count} gap{'s' * (count > 1)} in the times, the first at {first.seconds:.3f} s for "
            f"{first.length_seconds:.3f} s: frames were dropped there. Treat motion across a gap as unknown, or cut "
            "the video at it."
        )
    declared = float(info.declared_rate) if info and info.declared_rate else None
    if declared and times.contradicts(declared):
        yield (
            f"The file declares {declared:g} frames per second, but its times give {times.rate:.4g}. Believe the "
            "times; tools that count frames at the declared rate run at the wrong speed."
        )
    share = found.duplicates / max(1, found.frames - 1)
    if found.duplicates > 1 and share > 0.02:
        if found.motion.mean < 0.001:
            advice = "The picture stands still for the most part, as on a slide: look at fewer frames."
        elif share > 0.1:
            advice = (
                f"There are only {found.pictures_per_second:.4g} different pictures per second: drop the repeats "
                "before measuring motion or training on it."
            )
        else:
            advice = (
                "Either nothing moved there, or frames were lost in recording and filled up: leave them out where "
                "motion is measured."
            )
        yield f"{found.duplicates} frames ({share:.0%}) repeat the picture before them. {advice}"
    yield from damage.warnings
    if info and found.whole:
        last = found.start_seconds + times.span_seconds
        usual, longest = times.median_seconds or 0, times.longest_seconds or 0
        missing = info.missing(found.frames + damage.frames_lost, last, usual, longest)
        if missing:
            yield f"The file {missing}. It may be cut short; copy it again."
