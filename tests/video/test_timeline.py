"""Exact times without pixels."""

from fractions import Fraction

import pytest
import torch

from legato import Timeline
from legato.errors import BadArgument

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize(
    ("seconds", "rate", "count"), [(2, 24, 48), (1, NTSC, 30), (Fraction(1, 10), 24, 3), (2.5, 2, 5)]
)
def test_constant_counts_frames_up_to_the_end(seconds, rate, count):
    timeline = Timeline.constant(seconds=seconds, rate=rate, start=Fraction(1, 3))
    assert len(timeline) == count
    assert timeline.times[0] == Fraction(1, 3)
    assert timeline.times[-1] < Fraction(1, 3) + Fraction(seconds)
    assert timeline.is_constant_rate
    assert timeline.span == (count - 1) / Fraction(rate)


def test_an_hour_of_ntsc_does_not_drift():
    timeline = Timeline.constant(seconds=3600, rate=NTSC)
    assert timeline.times[-1] == (len(timeline) - 1) * Fraction(1001, 30000)


@pytest.mark.parametrize("count", range(1, 65))
def test_pts_and_back_for_any_length(count):
    uneven = Timeline.from_seconds([Fraction(i * i + 3 * i, 1000) for i in range(count)])
    for timeline in (Timeline.constant(seconds=count * Fraction(1001, 30000), rate=NTSC), uneven):
        base = Fraction(1, 30000)
        assert len(timeline) == count
        assert len(timeline.intervals) == count - 1
        assert timeline.span == sum(timeline.intervals)
        assert Timeline.from_pts(timeline.pts(base).tolist(), base) == timeline


def test_a_ramp_is_the_integral_of_the_speed():
    ramp = Timeline.ramp(rate=10, speed=[(0, 1), (1, 3), (2, 3)])
    at = dict(zip(Timeline.constant(seconds=2, rate=10).times, ramp.times, strict=True))
    assert at[Fraction(0)] == 0
    assert at[Fraction(1, 2)] == Fraction(1, 2) + Fraction(1, 4)  # t + t^2
    assert at[Fraction(1)] == 2
    assert at[Fraction(3, 2)] == 2 + Fraction(3, 2)
    steady = Timeline.ramp(rate=NTSC, speed=[(0, 1), (2, 1)])
    assert steady == Timeline.constant(seconds=2, rate=NTSC)


def test_a_float_second_is_the_fraction_that_it_is():
    timeline = Timeline.from_seconds(torch.tensor([0.0, 0.1, 0.25], dtype=torch.float64))
    assert timeline.times == (0, Fraction(0.1), Fraction(1, 4))
    assert timeline.seconds.tolist() == [0.0, 0.1, 0.25]
    assert not timeline.is_constant_rate
    assert timeline[1:].times == timeline.times[1:]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Timeline.from_seconds([0, 1, 1]), "time 2"),
        (lambda: Timeline.from_seconds([0.0, float("nan")]), "time 1 is nan"),
        (lambda: Timeline.constant(seconds=0, rate=24), "over 0"),
        (lambda: Timeline.constant(seconds=1, rate=-1), "over 0"),
        (lambda: Timeline.ramp(rate=10, speed=[(0, 1)]), "two or more"),
        (lambda: Timeline.ramp(rate=10, speed=[(0, 1), (1, 0)]), "speeds over 0"),
        (lambda: Timeline.from_seconds([0, Fraction(1, 1000)]).pts(Fraction(1, 25)), "too coarse"),
    ],
)
def test_bad_times_are_refused(make, told):
    with pytest.raises(BadArgument, match=told):
        make()


def test_repr_and_empty():
    assert repr(Timeline(())) == "Timeline(no frames)"
    assert "24 per second" in repr(Timeline.constant(seconds=1, rate=24))
    assert Timeline(()).span == 0
