"""Storyboards: pictures and the seconds at which they belong, and the video between them."""

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from legato.data.batch import pixels_to_signal, signal_to_pixels
from legato.errors import BadArgument
from legato.generate.ask import Ask
from legato.generate.generator import VideoGenerator
from legato.generate.refine import Refinement
from legato.generate.samplers import MultiLevel
from legato.motion.interpolate import Interpolator, Neighbour
from legato.video import Frame, Timeline
from legato.video.prefetch import mapped
from legato.video.still import read_picture
from legato.video.timeline import LARGEST, exact_number
from legato.yaml_file import read_yaml

__all__ = ["Key", "Storyboard", "between_keys", "read_storyboard", "refined_between_keys", "stamps_base"]

FINEST_TICK = 1_000_000
AT_ONCE = 8  # frames of a span that a thread makes
MOST_FRAMES = 1_000_000
LONGEST_WINDOW = 48  # frames; what the shipped refiner has seen


@dataclass(frozen=True, eq=False)
class Key:
    """A picture at its time.

    Attributes:
        time: in seconds.
        picture: RGB.
        confidence: 1 for a picture that is given and stays bit for bit; from 0 to under 1 for a proposal, of which
            so much stays where it is refined.
        text: of the span that begins with it, "" for none.
        file: that the picture was read from, if it was.
    """

    time: Fraction
    picture: UInt8[Tensor, "3 height width"]
    confidence: float = 1.0
    text: str = ""
    file: Path | None = None

    @property
    def given(self) -> bool:
        """Whether it is truth."""
        return self.confidence == 1


@dataclass(frozen=True)
class Storyboard:
    """Keys in the order of time.

    Raises:
        BadArgument: there are fewer than two, times do not rise or begin before 0, sizes differ, a confidence is out of
            range, or an end is not given.
    """

    keys: tuple[Key, ...]

    def __post_init__(self) -> None:
        if len(self.keys) < 2:
            count = "is 1 picture" if self.keys else "are no pictures"
            raise BadArgument(f"there {count}; it takes two or more to go between")
        if self.keys[0].time < 0:
            raise BadArgument(f"the first picture is at {float(self.keys[0].time):g} s; times begin at 0 or later")
        for a, b in itertools.pairwise(self.keys):
            if b.time == a.time:
                raise BadArgument(
                    f"two pictures are at {float(a.time):g} s{_named(a, b)}; times have to differ by a microsecond or "
                    "more"
                )
            if b.time < a.time:
                raise BadArgument(
                    f"a picture at {float(b.time):g} s comes after one at {float(a.time):g} s; times have to rise"
                )
        for key in self.keys[1:]:
            (height, width), (rows, columns) = self.keys[0].picture.shape[1:], key.picture.shape[1:]
            if (height, width) != (rows, columns):
                raise BadArgument(
                    f"the picture at {float(key.time):g} s is {columns}x{rows} and the first one {width}x{height}"
                    f"{_named(key, self.keys[0])}; bring them to one size"
                )
        wrong = [key.confidence for key in self.keys if not 0 <= key.confidence <= 1]
        if wrong:
            raise BadArgument(f"confidence is {wrong[0]:g}; expected 0 to 1")
        if not (self.keys[0].given and self.keys[-1].given):
            raise BadArgument("the first and the last picture have to be given, not proposed")

    def timeline(self, fps: Fraction | float | int) -> Timeline:
        """Frames at a rate from the first key to the last one, both included, and one more for each key off that grid.

        Args:
            fps: frames per second, exact; a float stands for a rate such as 24000/1001, or a whole number of seconds.

        Raises:
            BadArgument: the rate is not positive, or makes more frames than anyone could want.
        """
        if not 0 < fps <= LARGEST:
            raise BadArgument(f"fps is {fps}; expected more than 0, up to {LARGEST}")
        rate = _nearest(fps) if isinstance(fps, float) else Fraction(fps)
        first, last = self.keys[0].time, self.keys[-1].time
        if (last - first) * rate > MOST_FRAMES:
            raise BadArgument(
                f"{float(last - first):g} s at {float(rate):g} fps are {float((last - first) * rate):.0f} frames; "
                f"expected up to {MOST_FRAMES}"
            )
        grid = {first + k / rate for k in range(int((last - first) * rate) + 1)}
        return Timeline(tuple(sorted(grid | {key.time for key in self.keys})))

    def on_grid(self, fps: Fraction) -> "Storyboard":
        """The same with keys that are within a microsecond of a frame at a rate at that frame's time.

        Seconds count to a microsecond: 0.333333 stands for a third.

        Raises:
            BadArgument: two keys come to one time.
        """
        first = self.keys[0].time

        def placed(key: Key) -> Key:
            near = first + round((key.time - first) * fps) / fps
            return replace(key, time=near) if abs(near - key.time) <= Fraction(1, FINEST_TICK) else key

        return Storyboard(tuple(placed(key) for key in self.keys))

    def given(self, timeline: Timeline, *, proposals: bool = False) -> list[bool]:
        """Which frames are given pictures, and stay bit for bit; with proposals, where nothing refines them."""
        times = {key.time for key in self.keys if key.given or proposals}
        return [at in times for at in timeline]

    @property
    def text(self) -> str:
        """The texts of all spans, one after the other."""
        return " ".join(key.text for key in self.keys if key.text)


def _named(*keys: Key) -> str:
    """The files of keys, where they are known."""
    return f" ({' and '.join(str(key.file) for key in keys)})" if all(key.file for key in keys) else ""


def _nearest(fps: float) -> Fraction:
    """The fraction that a float was written for: of frames in a second, or of seconds for a frame."""
    exact = Fraction(fps)
    return exact.limit_denominator(1001) if exact >= 1 else 1 / (1 / exact).limit_denominator(1001)


def read_storyboard(path: Path) -> Storyboard:
    """Read a storyboard: YAML, a list of pictures with `time`, `image` and perhaps `confidence` and `text`.

    They may be in any order. Images are looked for beside the file.

    Raises:
        BadArgument: the file or an entry is wrong; it is named.
        VideoError: an image cannot be read.
    """
    written = read_yaml(path, "storyboard")
    if not isinstance(written, list):
        raise BadArgument(f"the storyboard {path} is not a list of pictures, each with time and image")
    keys = (_key(path, number, entry) for number, entry in enumerate(written))
    return Storyboard(tuple(sorted(keys, key=lambda key: key.time)))


def _key(path: Path, number: int, entry: Any) -> Key:
    known = {"time", "image", "confidence", "text"}
    if not isinstance(entry, dict) or not {"time", "image"} <= set(entry) <= known:
        raise BadArgument(
            f"picture {number} of the storyboard {path} is {entry!r}; expected time, image and perhaps confidence, text"
        )
    said, image, text = entry.get("confidence", 1.0), entry["image"], entry.get("text")
    try:
        time, confidence = exact_seconds(str(entry["time"])), math.nan if isinstance(said, bool) else float(said)
    except (TypeError, ValueError):
        raise BadArgument(
            f"picture {number} of the storyboard {path} has no number as time or confidence; expected seconds up to "
            f"{LARGEST}, and a share"
        ) from None
    wrong = f"picture {number} of the storyboard {path}, at {float(time):g} s, has"
    if not 0 <= confidence <= 1:
        raise BadArgument(f"{wrong} confidence {said}; expected a number from 0 to 1")
    if not isinstance(image, str) or not image:
        raise BadArgument(f"{wrong} image {image!r}; expected the name of a picture")
    if not (text is None or isinstance(text, str)):
        raise BadArgument(f"{wrong} text {text!r}; expected words (in quotes where YAML takes them for something else)")
    file = path.parent / image
    return Key(time, read_picture(file), confidence, text or "", file)


def exact_seconds(text: str) -> Fraction:
    """Seconds as they are written, `0.8` or `4/5`, to a microsecond.

    Raises:
        ValueError: it is no number, or over 1e9.
    """
    return exact_number(text).limit_denominator(FINEST_TICK)


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
    keys = {key.time: key for key in storyboard.keys}
    missing = sorted(set(keys) - set(timeline))
    if missing:
        raise BadArgument(f"there is no frame at {float(missing[0]):g} s, where a picture belongs")
    places = {time: place for place, time in enumerate(timeline)}
    given = {places[key.time]: key.picture for key in storyboard.keys if key.given}
    proposals = {places[key.time]: key for key in storyboard.keys if not key.given}

    def refined(window: Sequence[int], kept: dict[int, Tensor]) -> Tensor:
        """Frames at places in the timeline, by one call of the refiner; those that are kept stay bit for bit."""
        times = [timeline.times[place] for place in window]
        shown = torch.zeros(1, len(window), 3, height, width, dtype=torch.uint8)
        known = torch.tensor([[place in kept for place in window]])
        proposed = torch.full((1, len(window)), torch.nan)
        for at, place in enumerate(window):
            if place in kept:
                shown[0, at] = kept[place]
            elif place in proposals:
                shown[0, at], proposed[0, at] = proposals[place].picture, proposals[place].confidence
        ask = Ask(
            torch.tensor([[float(time - times[0]) for time in times]], dtype=torch.float64),
            [seed],
            text=[storyboard.text if text is None else text],
            given=pixels_to_signal(shown),
            known=known,
            proposed=proposed,
        )
        made = signal_to_pixels(generator.sample(ask, MultiLevel(levels)))[0].cpu()
        return torch.where(known[0, :, None, None, None], shown[0], made)

    def stretch(ends: Sequence[int], kept: dict[int, Tensor]) -> Iterator[Tensor]:
        """Frames from the first of some kept places up to, but not including, the last."""
        for begin, end in _windows(ends):
            if end - begin < LONGEST_WINDOW:
                yield from refined(range(begin, end + 1), kept)[:-1]
            else:
                sparse = _spread(begin, end, [place for place in proposals if begin < place < end])
                made = refined(sparse, kept)
                yield from stretch(sparse, kept | dict(zip(sparse, made, strict=True)))

    return _timed(timeline, itertools.chain(stretch(list(given), given), [storyboard.keys[-1].picture]))


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
