"""What a metric says of a video, and what every metric is."""

from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from legato.errors import BadArgument
from legato.metrics.moment import Moment

__all__ = ["Better", "Curve", "Measurement", "Metric", "readable"]

Better = Literal["lower", "higher", "neither"]


def readable(value: float | None) -> str:
    """A value for people: three digits, whole numbers whole, a dash where there is none."""
    if value is None:
        return "-"
    if abs(value) < 1e-9:
        return "0"
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e6 else f"{value:.3g}"


class Curve:
    """Values over seconds in bounded memory; the mean is exact, the shape is thinned where it gets long.

    When `limit` points are reached, every two neighbours become one: the worse one, so that no bad moment is lost.

    Args:
        better: which values are good.
        limit: most points kept; even.
    """

    def __init__(self, better: Better = "lower", limit: int = 8192):
        self.better = better
        self.count, self.total = 0, 0.0
        self._limit, self._every = limit, 1
        self._waiting: list[tuple[float, float]] = []
        self._seconds, self._values = array("d"), array("d")

    def add(self, seconds: float, value: float) -> None:
        """Add the value at a time; times rise."""
        self.count, self.total = self.count + 1, self.total + value
        self._waiting.append((seconds, value))
        if len(self._waiting) < self._every:
            return
        self._keep(*self._worst_of(self._waiting))
        self._waiting = []
        if len(self._values) >= self._limit:
            points = list(zip(self._seconds, self._values, strict=True))
            pairs = [self._worst_of(points[i : i + 2]) for i in range(0, len(points), 2)]
            self._seconds, self._values = array("d"), array("d")
            for point in pairs:
                self._keep(*point)
            self._every *= 2

    def __len__(self) -> int:
        return len(self._values) + bool(self._waiting)

    @property
    def mean(self) -> float | None:
        """Mean of all values ever added, None without any."""
        return self.total / self.count if self.count else None

    @property
    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Seconds and values, float64."""
        waiting = [self._worst_of(self._waiting)] if self._waiting else []
        seconds = [*self._seconds, *(s for s, _ in waiting)]
        return np.array(seconds), np.array([*self._values, *(v for _, v in waiting)])

    def worst(self, count: int = 3, apart_seconds: float = 0.5) -> tuple[float, ...]:
        """Times of the worst values, worst first, each some way from the others; none where all are alike."""
        seconds, values = self.points
        if not len(values) or self.better == "neither" or np.ptp(values) <= 1e-12:
            return ()
        order = np.argsort(values if self.better == "higher" else -values, kind="stable")
        found: list[float] = []
        for at in order:
            if all(abs(seconds[at] - other) >= apart_seconds for other in found):
                found.append(float(seconds[at]))
            if len(found) == count:
                break
        return tuple(found)

    def _keep(self, seconds: float, value: float) -> None:
        self._seconds.append(seconds)
        self._values.append(value)

    def _worst_of(self, points: Sequence[tuple[float, float]]) -> tuple[float, float]:
        pick = min if self.better == "higher" else max
        return pick(points, key=lambda point: point[1])


@dataclass(frozen=True, eq=False)
class Measurement:
    """One number about a video and where it comes from.

    Attributes:
        name: identifier, `snake_case`.
        value: the number; None where the video does not allow to say it, with the reason in `note`.
        unit: of the value.
        better: which direction is good; `neither` for a fact.
        about: what the number means, in a sentence for people.
        curve: values over seconds, where there is such a thing.
        limit: where people should begin to worry, None where that depends.
        note: what is special in this video: a reason for None, a found period.
        needs: what it takes besides the video: `reference`, `encoder` or `answers`.
    """

    name: str
    value: float | None
    unit: str
    better: Better
    about: str
    curve: Curve | None = None
    limit: float | None = None
    note: str = ""
    needs: str = ""

    def __post_init__(self) -> None:
        if self.value is None and not self.note:
            raise BadArgument(f"{self.name} has no value; a note has to say why")

    @property
    def worst_seconds(self) -> tuple[float, ...]:
        """Times of the worst moments, worst first."""
        return self.curve.worst() if self.curve else ()

    @property
    def beyond_limit(self) -> bool:
        """Whether the value is on the wrong side of its limit."""
        if self.limit is None or self.value is None:
            return False
        return self.value < self.limit if self.better == "higher" else self.value > self.limit

    def summary(self) -> dict[str, Any]:
        """The measurement as plain numbers and text, without its curve."""
        told: dict[str, Any] = {
            "value": self.value,
            "unit": self.unit,
            "better": self.better,
            "worst_seconds": [round(s, 6) for s in self.worst_seconds],
        }
        if self.limit is not None:
            told["limit"] = self.limit
        if self.note:
            told["note"] = self.note
        if self.needs:
            told["needs"] = self.needs
        return told


class Metric(ABC):
    """Watches one video go by once and says one or more numbers about it; a fresh one for each video.

    Memory does not grow with the video beyond a few numbers a frame. A cut is not incoherence: the first moment of
    a shot has no `before`, so nothing is compared across a cut.

    Attributes:
        prepare: what it asks of every moment; worked out ahead, beside the metrics.
    """

    prepare: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def add(self, moment: Moment) -> None:
        """Take the next moment."""

    @abstractmethod
    def result(self) -> list[Measurement]:
        """What can be said of the moments so far."""
