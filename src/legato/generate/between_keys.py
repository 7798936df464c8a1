"""The video between pictures at their times: along motion alone, or filled in and refined by a model.

Either way it is made frame by frame as it is asked for, and given pictures stay bit for bit.
"""

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction

import torch
from jaxtyping import UInt8
from torch import Tensor

from legato.data.batch import pixels_to_signal, signal_to_pixels
from legato.errors import BadArgument
from legato.generate.ask import Ask
from legato.generate.generator import VideoGenerator
from legato.generate.refine import Refinement
from legato.generate.samplers import MultiLevel
from legato.generate.storyboard import FINEST_TICK, Key, Storyboard
from legato.motion.interpolate import Interpolator, Neighbour
from legato.video import Frame, Timeline
from legato.video.prefetch import mapped

__all__ = ["between_keys", "refined_between_keys", "refined_clips", "stamps_base"]

AT_ONCE = 8  # frames of a span that a thread makes
LONGEST_WINDOW = 48  # frames; what the shipped refiner has seen


def between_keys(
    storyboard: Storyboard, timeline: Timeline, interpolator: Interpolator, *, threads: int = 1
) -> Iterator[Frame]:
    """The video between the keys, by an interpolator alone, made on the way; keys stay bit for bit, proposals too.

    Args:
        storyboard: of pictures.
        timeline: of the frames, within its span; see `Storyboard.timeline`.
        interpolator: for each span.
        threads: so many spans, or parts of one, are filled at a time; the frames are the same.

    Raises:
        BadArgument: a time lies outside.
    """
    keys, times = storyboard.keys, timeline.times
    outside = [at for at in (*times[:1], *times[-1:]) if not keys[0].time <= at <= keys[-1].time]
    if outside:
        raise BadArgument(
            f"a frame at {float(outside[0]):g} s lies outside the storyboard, which goes from "
            f"{float(keys[0].time):g} to {float(keys[-1].time):g} s"
        )

    def parts() -> Iterator[tuple[int, tuple[Fraction, ...]]]:
        for number, (a, b) in enumerate(itertools.pairwise(keys)):
            find = bisect_right if b is keys[-1] else bisect_left
            begin, end = bisect_left(times, a.time), find(times, b.time)
            yield from ((number, times[n : min(n + AT_ONCE, end)]) for n in range(begin, end, AT_ONCE))

    def filled(part: tuple[int, tuple[Fraction, ...]]) -> Tensor:
        number, inside = part
        a, b = keys[number : number + 2]
        span = b.time - a.time
        beside = (*keys[max(number - 1, 0) : number], *keys[number + 2 : number + 3])
        around = [Neighbour(key.picture, float((key.time - a.time) / span)) for key in beside]
        return interpolator(a.picture, b.picture, [float((at - a.time) / span) for at in inside], around)

    return _timed(timeline, itertools.chain.from_iterable(mapped(filled, parts(), threads)))


def refined_between_keys(
    storyboard: Storyboard,
    timeline: Timeline,
    generator: VideoGenerator,
    *,
    levels: int = 0,
    seed: int = 0,
    text: str | None = None,
) -> Iterator[Frame]:
    """The video between the keys, filled in and refined by a model; given keys stay bit for bit.

    Between two keys that are the same picture nothing moves, unless a text or a proposal says that something does.

    Long storyboards are refined in windows that begin and end with given keys, so nothing jumps where they meet; one
    window is held at a time. In a gap that is longer than a window frames spread over it are made first, which are kept
    as keys are while those between them are made.

    Args:
        storyboard: of pictures of the generator's size.
        timeline: of the frames; has to hold every key's time.
        generator: a refiner.
        levels: see `MultiLevel`.
        seed: of its noise, if any.
        text: what is to be seen; the storyboard's own text where it is None.

    Raises:
        BadArgument: sizes differ, or the generator is no refiner.
    """
    if not isinstance(generator.objective, Refinement):
        raise BadArgument("this checkpoint does not refine between pictures; puppet-inbetween is one that does")
    height, width = storyboard.keys[0].picture.shape[1:]
    if (height, width) != (generator.height, generator.width):
        raise BadArgument(
            f"the pictures are {width}x{height}; this checkpoint refines {generator.width}x{generator.height}: resize "
            "them, or leave the checkpoint out"
        )
    missing = sorted({key.time for key in storyboard.keys} - set(timeline))
    if missing:
        raise BadArgument(f"there is no frame at {float(missing[0]):g} s, where a picture belongs")
    first, last = storyboard.keys[0].time, storyboard.keys[-1].time
    if (timeline.times[0], timeline.times[-1]) != (first, last):
        raise BadArgument(
            f"the frames go from {float(timeline.times[0]):g} to {float(timeline.times[-1]):g} s, and the storyboard "
            f"from {float(first):g} to {float(last):g} s; a refiner needs a given picture at both ends"
        )
    places = {time: place for place, time in enumerate(timeline)}
    given = {places[key.time]: key.picture[None] for key in storyboard.keys if key.given}
    proposals = {places[key.time]: key for key in storyboard.keys if not key.given}
    text = storyboard.text if text is None else text
    made = refined_clips(timeline, given, generator, proposals=proposals, levels=levels, seed=seed, text=text)
    return _timed(timeline, itertools.chain.from_iterable(made))


def refined_clips(
    timeline: Timeline,
    given: Mapping[int, UInt8[Tensor, "clips 3 height width"]],
    generator: VideoGenerator,
    *,
    proposals: Mapping[int, Key] | None = None,
    levels: int = 0,
    seed: int = 0,
    text: str = "",
) -> Iterator[UInt8[Tensor, "clips 3 height width"]]:
    """Clips of the same times filled in and refined together, frame by frame of all; see `refined_between_keys`.

    Args:
        timeline: of the frames.
        given: pictures of all clips by their places in it, the first and the last among them.
        generator: a refiner of their size.
        proposals: of each place that has one, for all clips.
        levels: see `MultiLevel`.
        seed: of its noise, if any.
        text: what is to be seen.
    """
    proposed_at = dict(proposals or {})
    count, *shape = given[0].shape

    def refined(window: Sequence[int], kept: Mapping[int, Tensor]) -> Tensor:
        """Frames at places in the timeline, by one call of the refiner; those that are kept stay bit for bit."""
        times = [timeline.times[place] for place in window]
        shown = torch.zeros(count, len(window), *shape, dtype=torch.uint8)
        known = torch.tensor([place in kept for place in window]).repeat(count, 1)
        proposed = torch.full((count, len(window)), torch.nan)
        for at, place in enumerate(window):
            if place in kept:
                shown[:, at] = kept[place]
            elif place in proposed_at:
                shown[:, at], proposed[:, at] = proposed_at[place].picture, proposed_at[place].confidence
        ask = Ask(
            torch.tensor([[float(time - times[0]) for time in times]], dtype=torch.float64).repeat(count, 1),
            [seed] * count,
            text=(text,) * count,
            given=pixels_to_signal(shown),
            known=known,
            proposed=proposed,
        )
        made = signal_to_pixels(generator.sample(ask, MultiLevel(levels))).cpu()
        for a, b in itertools.pairwise(at for at, place in enumerate(window) if place in kept):
            said = bool(text) or bool(proposed[0, a:b].nan_to_num().any())
            if not said:  # nothing says that anything moves between equal ones
                held = (shown[:, a] == shown[:, b]).flatten(1).all(1)
                made[held, a:b] = shown[held, a : a + 1]
        return torch.where(known[:, :, None, None, None], shown, made).transpose(0, 1)

    def stretch(ends: Sequence[int], kept: Mapping[int, Tensor]) -> Iterator[Tensor]:
        """Frames from the first of some kept places up to, but not including, the last."""
        for begin, end in _windows(ends):
            if end - begin < LONGEST_WINDOW:
                yield from refined(range(begin, end + 1), kept)[:-1]
            else:
                sparse = _spread(begin, end, [place for place in proposed_at if begin < place < end])
                made = refined(sparse, kept)
                yield from stretch(sparse, {**kept, **dict(zip(sparse, made, strict=True))})

    return itertools.chain(stretch(sorted(given), given), [given[max(given)]])


def _windows(ends: Sequence[int]) -> list[tuple[int, int]]:
    """Stretches of frames from one of some places to another, as long as the limit allows, the ends shared."""
    windows, begin = [], ends[0]
    for here, after in itertools.pairwise([*ends[1:], None]):
        assert here is not None
        if after is None or after - begin >= LONGEST_WINDOW:
            windows.append((begin, here))
            begin = here
    return windows


def _spread(begin: int, end: int, preferred: Sequence[int]) -> list[int]:
    """Places from one to another, evenly apart and no more than the limit allows.

    A preferred one takes the place of one that it is near to.
    """
    gaps = math.ceil((end - begin) / math.ceil((end - begin) / (LONGEST_WINDOW - 1)))
    apart = Fraction(end - begin, gaps)
    chosen = {begin, end}
    for number in range(1, gaps):
        at = begin + number * apart
        near = min(preferred, key=lambda place: abs(place - at), default=begin)
        chosen.add(near if abs(near - at) <= apart / 2 else round(at))
    return sorted(chosen)


def stamps_base(timeline: Timeline) -> Fraction:
    """The time base that frames between keys have: one that holds their times exactly, or a microsecond."""
    fine = math.lcm(*(time.denominator for time in timeline))
    return Fraction(1, fine if fine <= FINEST_TICK else FINEST_TICK)


def _timed(timeline: Timeline, pictures: Iterable[Tensor]) -> Iterator[Frame]:
    base = stamps_base(timeline)
    stamps = timeline.pts(base).tolist()
    return (Frame(picture, stamp, base) for picture, stamp in zip(pictures, stamps, strict=True))
