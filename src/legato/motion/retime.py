"""A video at other times: `retimed(frames, times)` takes frames as they come and makes those at the times asked for.

Source frames are asked for by their own presentation times, so a video of variable rate is nothing special. A time
that is a source frame's gives that frame's very pixels, one between two frames goes to an interpolator, and one
between two shots gets the frame nearer to it: nothing is ever mixed across a cut.
"""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

from legato.errors import BadArgument
from legato.motion.cuts import CutDetector
from legato.motion.interpolate import FlowInterpolator, Interpolator, Neighbour
from legato.video.frames import Frame
from legato.video.prefetch import mapped
from legato.video.write import LONE_FRAME_SECONDS

__all__ = ["Retimed", "end_of", "retimed", "shown_at"]

AT_ONCE = 8  # pictures made between two frames before they are passed on, however slow the motion
FINEST_SECONDS = Fraction(1, 1000)
BELIEVED_SECONDS = Fraction(1)


@dataclass(frozen=True)
class Retimed:
    """A frame at a time that was asked for.

    Attributes:
        frame: its pixels, and that time.
        origin: `source`: a frame of the video; `interpolated`: made from two; `held`: the nearer of two frames with a
            cut between them, or the last one on while it lasts.
    """

    frame: Frame
    origin: Literal["source", "interpolated", "held"]


def retimed(
    frames: Iterable[Frame],
    times: Iterable[Fraction],
    interpolator: Interpolator | None = None,
    *,
    cuts: CutDetector | None = None,
    end: Fraction | None = None,
    window_frames: int = 3,
    threads: int = 1,
) -> Iterator[Retimed]:
    """Frames at other times, and where each is from; at most `window_frames + threads + 4` source frames are held.

    A time is a source frame's if it lies within a tick of the source's time base, and within a millisecond: half of
    that for the frame, half for the one that times are counted from, since files that round their times do not turn a
    frame into a mixture. Where frames are closer than that, the nearest one counts.

    Args:
        frames: in order, of one size.
        times: rising, none before the first frame; may go on for ever, since it ends with the video.
        interpolator: `FlowInterpolator()` where none is given.
        cuts: what finds the shots; None takes the video for a single one.
        end: when the last frame ends, as `end_of` tells; None: it lasts as long as the one before it.
        window_frames: how many frames after the first of a new shot `cuts` may be sure of it, at most.
        threads: so many gaps are filled at a time; the frames are the same.

    Raises:
        BadArgument: no frames, times that fall or begin too early, frames that change size, or a cut that was found
            later than `window_frames` allows.
    """
    if window_frames < 1:
        raise BadArgument(f"window_frames is {window_frames}; expected at least 1")
    between = interpolator or FlowInterpolator()
    jobs = _jobs(_gaps(frames, cuts, end, window_frames), _rising(times))
    filled = mapped(lambda job: job[0].fill(job[1], between), jobs, threads)
    return (step for steps in filled for step in steps)


def end_of(last: Frame, before: Frame | None, declared: Fraction | None) -> Fraction:
    """When the last frame of a video ends.

    Args:
        last: frame.
        before: the frame before it, if there is one.
        declared: the end that the file declares. Of damaged files it tells what was to come: it is believed if the
            frame then lasts up to a second, or twice as long as the one before it.

    Returns:
        The declared end, or one that lets the frame last as long as the one before it, 0.04 s if it is alone.
    """
    usual = LONE_FRAME_SECONDS if before is None else last.time - before.time
    if declared is not None and 0 < declared - last.time <= max(BELIEVED_SECONDS, 2 * usual):
        return declared
    return last.time + usual


def shown_at(frames: Iterable[Frame], times: Iterable[Fraction], time_base: Fraction) -> Iterator[Frame]:
    """The frames with other times, in one time base, which has to hold those times exactly."""
    for frame, time in zip(frames, times, strict=False):
        pts = time / time_base
        if pts.denominator != 1:
            raise BadArgument(f"{time} s is no multiple of the time base {time_base} s; use a finer one")
        yield replace(frame, pts=int(pts), time_base=time_base)


# --- parts


def _jobs(gaps: Iterable["_Gap"], asked: Iterator[Fraction]) -> Iterator[tuple["_Gap", list[Fraction]]]:
    """Times that are asked for, in small portions, with the gap in which they lie."""
    coming = next(asked, None)
    for gap in gaps:
        if coming is not None and coming < gap.begin:
            raise BadArgument(
                f"{float(coming):g} s is asked for, and the video begins at {gap.first.seconds:g} s; begin there"
            )
        while coming is not None and coming < gap.end:
            group: list[Fraction] = []
            while coming is not None and coming < gap.end and len(group) < AT_ONCE:
                group.append(coming)
                coming = next(asked, None)
            yield gap, group
        if coming is None:
            return


@dataclass(frozen=True)
class _Gap:
    """From one source frame up to the next, or up to the end of the video.

    Attributes:
        before: the frame before the first, if it is of the same shot.
        first: the frame at the start.
        second: the one at the end, if it is in reach: None at the end of the video.
        after: the frame after the second, if it is of the same shot as that.
        cut: whether the second begins a shot.
        begin: earliest time that belongs here; a little before that of `first`, by what its file may have rounded.
        until: the last time that is that of `first`, as much after it.
        end: the first time that does not belong here.
    """

    before: Frame | None
    first: Frame
    second: Frame | None
    after: Frame | None
    cut: bool
    begin: Fraction
    until: Fraction
    end: Fraction

    def fill(self, times: list[Fraction], interpolator: Interpolator) -> list[Retimed]:
        """Frames at times within the gap."""
        inside = [time for time in times if time > self.until]
        made = iter(())
        if inside and self.second is not None and not self.cut:
            begin, span = self.first.time, self.second.time - self.first.time
            spaced = [float((time - begin) / span) for time in inside]
            beside = [frame for frame in (self.before, self.after) if frame is not None]
            around = [Neighbour(frame.pixels, float((frame.time - begin) / span)) for frame in beside]
            made = iter(interpolator(self.first.pixels, self.second.pixels, spaced, around))
        filled = []
        for time in times:
            if time <= self.until:
                filled.append(Retimed(_at(self.first, time), "source"))
            elif self.second is None:
                filled.append(Retimed(_at(self.first, time), "held"))
            elif self.cut:
                nearer = self.first if 2 * time < self.first.time + self.second.time else self.second
                filled.append(Retimed(_at(nearer, time), "held"))
            else:
                filled.append(Retimed(_at(replace(self.first, pixels=next(made)), time), "interpolated"))
        return filled


def _gaps(
    frames: Iterable[Frame], cuts: CutDetector | None, declared: Fraction | None, window_frames: int
) -> Iterator[_Gap]:
    """The gaps of a video, the last one being the time that its last frame lasts."""
    before: Frame | None = None
    first: Frame | None = None
    second: Frame | None = None
    begins_shot, cut = True, False  # of the first frame, and between the first and the second
    begin = Fraction(0)
    for coming, begins in itertools.chain(_settled(frames, cuts, window_frames), [(None, False)]):
        if second is not None and coming is not None and coming.time <= second.time:
            raise BadArgument(f"{coming} does not come after {second}; give frames in order of their times")
        if first is not None and second is not None:
            earlier, later = None if begins_shot else before, None if begins else coming
            until, end = first.time + _rounding(first, second), second.time - _rounding(second, first)
            yield _Gap(earlier, first, second, later, cut, begin, until, end)
            begin = end
        if second is not None:
            begin = second.time - _rounding(second, None) if first is None else begin
            before, first, begins_shot = first, second, cut or first is None
        second, cut = coming, begins
    if first is None:
        raise BadArgument("there are no frames to retime; give at least one")
    until, end = first.time + _rounding(first, None), end_of(first, before, declared) - _rounding(first, None)
    yield _Gap(None, first, None, None, False, begin, until, max(until, end))


def _settled(frames: Iterable[Frame], cuts: CutDetector | None, window_frames: int) -> Iterator[tuple[Frame, bool]]:
    """Frames, and whether each begins a shot, as late as the detector needs to be sure."""
    if cuts is None:
        yield from ((frame, False) for frame in frames)
        return
    waiting: deque[Frame] = deque()
    begins: set[int] = set()
    state: Any = None
    passed = 0

    def note(number: int) -> None:
        if number < passed:
            raise BadArgument(
                f"the cut at frame {number} was found {window_frames + passed - number} frames late; "
                "raise window_frames to the detector's look-ahead"
            )
        begins.add(number)

    def settle() -> tuple[Frame, bool]:
        nonlocal passed
        passed += 1
        cut = passed - 1 in begins
        begins.discard(passed - 1)
        return waiting.popleft(), cut

    for frame in frames:
        step = cuts.step(frame, state)
        state = step.state
        waiting.append(frame)
        if step.confirmed is not None:
            note(step.confirmed.frame)
        if len(waiting) > window_frames:
            yield settle()
    last = cuts.finish(state) if waiting else None
    if last is not None:
        note(last.frame)
    while waiting:
        yield settle()


def _rounding(frame: Frame, near: Frame | None) -> Fraction:
    """How far a time may be from the frame's and stand for it, on the side of the frame that is near there, if any."""
    most = min(frame.time_base, FINEST_SECONDS)
    return most if near is None else min(most, abs(near.time - frame.time) / 2)


def _rising(times: Iterable[Fraction]) -> Iterator[Fraction]:
    before: Fraction | None = None
    for time in times:
        if before is not None and time <= before:
            raise BadArgument(f"{float(time):g} s is asked for after {float(before):g} s; give rising times")
        yield time
        before = time


def _at(frame: Frame, time: Fraction) -> Frame:
    return replace(frame, pts=time.numerator, time_base=Fraction(1, time.denominator))
