"""Storyboards: pictures and the seconds at which they belong."""

import itertools
import math
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from legato.errors import BadArgument
from legato.video import Timeline
from legato.video.still import read_picture
from legato.video.timeline import LARGEST, exact_number
from legato.yaml_file import read_yaml

__all__ = ["Key", "Storyboard", "read_storyboard"]

FINEST_TICK = 1_000_000
MOST_FRAMES = 1_000_000


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
                    f"a picture at {float(b.time):g} s comes after one at {float(a.time):g} s{_named(b, a)}; times "
                    "have to rise"
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

    Their times rise. Images are looked for beside the file.

    Raises:
        BadArgument: the file or an entry is wrong; it is named.
        VideoError: an image cannot be read.
    """
    written = read_yaml(path, "storyboard")
    if not isinstance(written, list):
        raise BadArgument(f"the storyboard {path} is not a list of pictures, each with time and image")
    return Storyboard(tuple(_key(path, number, entry) for number, entry in enumerate(written)))


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
