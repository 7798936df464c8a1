"""How fast the world goes by while a video is shown: speed curves, exact."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from legato.errors import BadArgument

__all__ = ["SpeedCurve"]

Exact = int | float | Fraction


@dataclass(frozen=True)
class SpeedCurve:
    """Speed over output seconds: linear between points, and that of the last point ever after.

    Attributes:
        points: (output seconds, world seconds per output second); the first one is the start.

    Raises:
        BadArgument: there is no point, seconds do not rise, or a speed is not over 0.
    """

    points: tuple[tuple[Fraction, Fraction], ...]

    def __post_init__(self) -> None:
        rising = all(later > earlier for (earlier, _), (later, _) in pairwise(self.points))
        if not self.points or not rising or any(speed <= 0 for _, speed in self.points):
            shown = ",".join(f"{float(at):g}:{float(speed):g}" for at, speed in self.points)
            raise BadArgument(f"speed is '{shown}'; expected points (seconds, speed), seconds rising, speeds over 0")

    @classmethod
    def through(cls, points: Iterable[tuple[Exact, Exact]]) -> "SpeedCurve":
        """The curve through points of any kind of number; a float stands for the binary fraction that it is."""
        return cls(tuple((Fraction(at), Fraction(speed)) for at, speed in points))

    def world(self, output: Fraction) -> Fraction:
        """World seconds gone by since the first point: the exact integral of the speed.

        Raises:
            BadArgument: `output` lies before the first point.
        """
        segment = bisect_right(self.points, output, key=lambda point: point[0]) - 1
        if segment < 0:
            raise BadArgument(f"{float(output):g} s lies before the curve, which starts at {self.points[0][0]} s")
        gone = Fraction(0)
        for (t0, v0), (t1, v1) in pairwise(self.points[: segment + 1]):
            gone += (t1 - t0) * (v0 + v1) / 2
        t0, v0 = self.points[segment]
        if segment + 1 == len(self.points):
            return gone + (output - t0) * v0
        t1, v1 = self.points[segment + 1]
        here = v0 + (v1 - v0) * (output - t0) / (t1 - t0)
        return gone + (output - t0) * (v0 + here) / 2
