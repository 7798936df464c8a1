"""Exact frame times without pixels: what is asked of a generator, or measured on a file."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from legato.errors import BadArgument
from legato.video.speed import SpeedCurve

__all__ = ["Timeline", "exact_number"]

Exact = int | Fraction

LARGEST = 10**9  # seconds or frames per second that anyone writes down


def exact_number(text: str) -> Fraction:
    """A number as it is written, `0.8`, `1e-3` or `24000/1001`, exactly.

    Raises:
        ValueError: it is none, or over 1e9 on either side of 0.
    """
    if re.search(r"[eE][+-]?[0-9_]{4}", text):  # would take minutes to write out
        raise ValueError(text)
    try:
        number = Fraction(text)
    except ZeroDivisionError:
        raise ValueError(text) from None
    if abs(number) > LARGEST:
        raise ValueError(text)
    return number


@dataclass(frozen=True)
class Timeline:
    """Strictly rising frame times in seconds, kept as exact fractions.

    A timeline of T frames spans T - 1 intervals: `span` is the last time minus the first.

    Raises:
        BadArgument: times do not rise.
    """

    times: tuple[Fraction, ...]

    def __post_init__(self) -> None:
        for i, (earlier, later) in enumerate(pairwise(self.times)):
            if later <= earlier:
                raise BadArgument(
                    f"times must rise, but time {i + 1} ({float(later):g} s) does not come after "
                    f"time {i} ({float(earlier):g} s); sort them and drop repeats"
                )

    @classmethod
    def constant(cls, *, seconds: Exact | float, rate: Exact | float, start: Exact | float = 0) -> "Timeline":
        """Frames at a constant rate, the end not included: 2 s at 24 per second are 48 frames.

        Args:
            seconds: length, over 0.
            rate: frames per second, over 0; `Fraction(24000, 1001)` is exact where 23.976 is not.
            start: time of the first frame in seconds.
        """
        length, per_second = Fraction(seconds), Fraction(rate)
        if length <= 0 or per_second <= 0:
            raise BadArgument(f"seconds is {seconds} and rate is {rate}; both must be over 0")
        count = math.ceil(length * per_second)
        return cls(tuple(Fraction(start) + i / per_second for i in range(count)))

    @classmethod
    def ramp(cls, *, rate: Exact | float, speed: Sequence[tuple[Exact | float, Exact | float]]) -> "Timeline":
        """World times of frames shown at a constant rate while the world's speed changes.

        Args:
            rate: frames per second of the output.
            speed: points (output seconds, world seconds per output second), linear in between, speeds
                over 0; the first point is the start, the last one the end (not included).

        Returns:
            World time of each output frame: the exact integral of the speed from the first point.
        """
        curve = SpeedCurve.through(speed)
        if len(curve.points) < 2:
            raise BadArgument(f"speed is {list(speed)}; expected two or more points, the last one being the end")
        start, end = curve.points[0][0], curve.points[-1][0]
        outputs = cls.constant(seconds=end - start, rate=rate, start=start)
        return cls(tuple(curve.world(output) for output in outputs.times))

    @classmethod
    def from_seconds(cls, seconds: Iterable[Exact | float] | Tensor) -> "Timeline":
        """Times as given; a float stands for the exact binary fraction that it is.

        Raises:
            BadArgument: a time is not finite, or times do not rise.
        """
        values = seconds.tolist() if isinstance(seconds, Tensor) else list(seconds)
        for i, value in enumerate(values):
            if isinstance(value, float) and not math.isfinite(value):
                raise BadArgument(f"time {i} is {value}; expected a finite number of seconds")
        return cls(tuple(Fraction(v) for v in values))

    @classmethod
    def from_pts(cls, pts: Iterable[int], time_base: Fraction) -> "Timeline":
        """Times of integer presentation stamps in units of `time_base` seconds."""
        return cls(tuple(int(p) * time_base for p in pts))

    @property
    def seconds(self) -> Float64[Tensor, " time"]:
        """Times in seconds, float64."""
        return torch.tensor([float(t) for t in self.times], dtype=torch.float64)

    @property
    def span(self) -> Fraction:
        """Last time minus first, in seconds; 0 with fewer than two frames."""
        return self.times[-1] - self.times[0] if self.times else Fraction(0)

    @property
    def intervals(self) -> tuple[Fraction, ...]:
        """Seconds from each frame to the next; one fewer than frames."""
        return tuple(b - a for a, b in pairwise(self.times))

    @property
    def is_constant_rate(self) -> bool:
        """Whether all intervals are equal, exactly."""
        return len(set(self.intervals)) <= 1

    def pts(self, time_base: Fraction) -> Int64[Tensor, " time"]:
        """The nearest integer stamps in units of `time_base` seconds.

        Raises:
            BadArgument: two frames fall on one stamp; the time base is too coarse.
        """
        stamps = [round(t / time_base) for t in self.times]
        if len(set(stamps)) < len(stamps):
            raise BadArgument(f"time base {time_base} s is too coarse: two frames share a stamp; use a finer one")
        return torch.tensor(stamps, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.times)

    def __iter__(self) -> Iterator[Fraction]:
        return iter(self.times)

    def __getitem__(self, at: slice) -> "Timeline":
        return Timeline(self.times[at])

    def __repr__(self) -> str:
        if not self.times:
            return "Timeline(no frames)"
        kind = (
            f"{float(1 / self.intervals[0]):g} per second" if len(self) > 1 and self.is_constant_rate else "irregular"
        )
        return f"Timeline({len(self)} frames, {float(self.times[0]):g} to {float(self.times[-1]):g} s, {kind})"
