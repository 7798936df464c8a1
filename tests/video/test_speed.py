"""Speed curves."""

from fractions import Fraction

import pytest

from legato.errors import BadArgument
from legato.video.speed import SpeedCurve


def test_the_world_goes_by_at_the_integral_of_the_speed() -> None:
    curve = SpeedCurve.through([(0, 1), (1, 3), (2, 3)])
    assert [curve.world(Fraction(n, 2)) for n in range(7)] == [0, Fraction(3, 4), 2, Fraction(7, 2), 5, 6.5, 8]


def test_one_point_is_a_constant_speed() -> None:
    assert SpeedCurve.through([(2, Fraction(1, 3))]).world(Fraction(5)) == 1


@pytest.mark.parametrize("points", [[], [(0, 0)], [(0, 1), (0, 2)], [(1, 1), (0, 1)], [(0, -1)]])
def test_what_is_no_curve_is_refused(points: list[tuple[int, int]]) -> None:
    with pytest.raises(BadArgument, match="seconds rising, speeds over 0"):
        SpeedCurve.through(points)


def test_before_the_curve_there_is_nothing() -> None:
    with pytest.raises(BadArgument, match="lies before the curve"):
        SpeedCurve.through([(1, 1)]).world(Fraction(0))
