"""Functions of time: where things are, and how bright the light is."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from legato.errors import BadArgument

__all__ = [
    "Circular", "Fade", "Flash", "Light", "Linear", "Number", "Oscillating", "Pair", "Path", "Seconds", "Still",
    "Waypoints",
]  # fmt: skip

Number = int | float
Pair = tuple[Number, Number]
Seconds = Float64[Tensor, " time"]
Light = Callable[[Seconds], Seconds]
"""Gain on every pixel value at each time: 1 as it is, 0 dark."""

TURN = 2 * math.pi


class Path(ABC):
    """A position (x, y) at every time."""

    @abstractmethod
    def __call__(self, seconds: Seconds) -> Float64[Tensor, "time 2"]:
        """Positions at the given times."""


@dataclass(frozen=True)
class Still(Path):
    """Always at `position`."""

    position: Pair = (0.5, 0.5)

    def __call__(self, seconds: Seconds) -> Float64[Tensor, "time 2"]:
        """Positions at the given times."""
        return _pair(self.position).expand(len(seconds), 2)


@dataclass(frozen=True)
class Linear(Path):
    """At `start` at 0 seconds, moving by `velocity` per second."""

    start: Pair = (0.5, 0.5)
    velocity: Pair = (0.0, 0.0)

    def __call__(self, seconds: Seconds) -> Float64[Tensor, "time 2"]:
        """Positions at the given times."""
        return _pair(self.start) + seconds[:, None] * _pair(self.velocity)


@dataclass(frozen=True)
class Circular(Path):
    """Round `centre` clockwise, once in `period_seconds`, from `phase_turns` past three o'clock.

    `radius` is a fraction of the width across and of the height down: an ellipse where the frame is not square.
    """

    centre: Pair = (0.5, 0.5)
    radius: Number = 0.25
    period_seconds: Number = 2.0
    phase_turns: Number = 0.0

    def __call__(self, seconds: Seconds) -> Float64[Tensor, "time 2"]:
        """Positions at the given times."""
        angle = TURN * (seconds / self.period_seconds + self.phase_turns)
        return _pair(self.centre) + self.radius * torch.stack([angle.cos(), angle.sin()], -1)


@dataclass(frozen=True)
class Oscillating(Path):
    """To and fro by `amplitude` on either side of `centre`, as a sine of `period_seconds`."""

    centre: Pair = (0.5, 0.5)
    amplitude: Pair = (0.25, 0.0)
    period_seconds: Number = 2.0
    phase_turns: Number = 0.0

    def __call__(self, seconds: Seconds) -> Float64[Tensor, "time 2"]:
        """Positions at the given times."""
        swing = (TURN * (seconds / self.period_seconds + self.phase_turns)).sin()
        return _pair(self.centre) + swing[:, None] * _pair(self.amplitude)


@dataclass(frozen=True)
class Waypoints(Path):
    """Straight from point to point, `points` being (seconds, (x, y)); at rest before the first and after the last."""

    points: tuple[tuple[Number, Pair], ...]

    def __post_init__(self) -> None:
        times = [time for time, _ in self.points]
        if not times or sorted(set(times)) != times:
            raise BadArgument(f"the times of the waypoints are {times}; expected at least one, rising")

    def __call__(self, seconds: Seconds) -> Float64[Tensor, "time 2"]:
        """Positions at the given times."""
        times = torch.tensor([time for time, _ in self.points], dtype=torch.float64)
        places = torch.tensor([place for _, place in self.points], dtype=torch.float64)
        after = torch.searchsorted(times, seconds, right=True).clamp(1, max(len(times) - 1, 1))
        if len(times) == 1:
            return places.expand(len(seconds), 2)
        share = ((seconds - times[after - 1]) / (times[after] - times[after - 1])).clamp(0, 1)
        return torch.lerp(places[after - 1], places[after], share[:, None])


@dataclass(frozen=True)
class Flash:
    """A camera flash: `gain` from `at_seconds` on for `for_seconds`, 1 otherwise."""

    at_seconds: Number
    for_seconds: Number
    gain: Number = 4.0

    def __call__(self, seconds: Seconds) -> Seconds:
        """Gain at the given times."""
        lit = (seconds >= self.at_seconds) & (seconds < self.at_seconds + self.for_seconds)
        return torch.where(lit, self.gain, 1.0).to(torch.float64)


@dataclass(frozen=True)
class Fade:
    """From gain `start` at `from_seconds` evenly to gain `end` at `to_seconds`; constant before and after."""

    from_seconds: Number
    to_seconds: Number
    start: Number = 0.0
    end: Number = 1.0

    def __call__(self, seconds: Seconds) -> Seconds:
        """Gain at the given times."""
        share = ((seconds - self.from_seconds) / (self.to_seconds - self.from_seconds)).clamp(0, 1)
        return self.start + share * (self.end - self.start)


def _pair(values: Pair) -> Float64[Tensor, "2"]:
    return torch.tensor(values, dtype=torch.float64)
