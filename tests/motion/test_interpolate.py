"""Pictures between pictures."""

from fractions import Fraction

import pytest
import torch

from legato.errors import BadArgument
from legato.motion.interpolate import FlowInterpolator, Interpolator, LinearInterpolator, between
from legato.video import Timeline
from tests import faults

BOTH = [LinearInterpolator(), FlowInterpolator()]


@pytest.mark.parametrize("interpolator", BOTH)
def test_the_ends_are_the_given_pictures_bit_for_bit(interpolator: Interpolator) -> None:
    first, second = faults.moving_scene(seconds=1)[:2]
    made = interpolator(first.pixels, second.pixels, [0.0, 0.5, 1.0])
    assert torch.equal(made[0], first.pixels)
    assert torch.equal(made[2], second.pixels)
    assert not torch.equal(made[1], first.pixels)


@pytest.mark.parametrize("interpolator", BOTH)
def test_between_equal_pictures_nothing_happens(interpolator: Interpolator) -> None:
    first = faults.moving_scene(seconds=1)[0]
    assert torch.equal(interpolator(first.pixels, first.pixels, [0.3])[0], first.pixels)


def test_light_that_changes_is_linear() -> None:
    dark, light = (torch.full((3, 20, 20), value, dtype=torch.uint8) for value in (40, 80))
    assert LinearInterpolator()(dark, light, [0.25]).unique().tolist() == [50]


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_flow_puts_moving_things_where_they_are_at_that_time(share: float) -> None:
    from legato.data.scenes import random_scene

    scene = random_scene(torch.Generator().manual_seed(4), things=3, speed=0.5)
    times = [Fraction(1), Fraction(1) + Fraction(share).limit_denominator(100) / 10, Fraction(11, 10)]
    first, middle, last = scene.frames(Timeline.from_seconds(times), 180, 240)
    error = {
        type(i).__name__: float(
            (between(first, last, [middle.time], i).pixels[0].float() - middle.pixels.float()).abs().mean()
        )
        for i in BOTH
    }
    assert error["FlowInterpolator"] < 0.5 * error["LinearInterpolator"], error


def test_times_are_kept_exactly_whatever_the_time_bases() -> None:
    first, second = faults.moving_scene(seconds=1)[:2]
    times = [first.time, first.time + Fraction(1, 97), second.time]
    frames = between(first, second, times, LinearInterpolator())
    assert [f.time for f in frames] == times


def test_times_outside_and_other_sizes_are_refused() -> None:
    first, second = faults.moving_scene(seconds=1)[:2]
    with pytest.raises(BadArgument, match="does not lie between"):
        between(first, second, [second.time + 1])
    with pytest.raises(BadArgument, match="does not come after"):
        between(second, first, [first.time])
    with pytest.raises(BadArgument, match="share"):
        LinearInterpolator()(first.pixels, second.pixels, [1.2])
    with pytest.raises(BadArgument, match="one size"):
        FlowInterpolator()(first.pixels, second.pixels[:, :60], [0.5])
