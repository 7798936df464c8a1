"""Pictures between pictures."""

from collections.abc import Sequence
from fractions import Fraction

import pytest
import torch

from legato.errors import BadArgument
from legato.motion.footage_refiner import FootageRefiner, RefinedInterpolator
from legato.motion.interpolate import (
    FlowInterpolator,
    Interpolator,
    LinearInterpolator,
    Neighbour,
    SimpleFlowInterpolator,
    between,
)
from legato.video import Timeline
from tests import faults

BOTH = [LinearInterpolator(), FlowInterpolator()]
ALL = [*BOTH, SimpleFlowInterpolator()]


@pytest.mark.parametrize("interpolator", ALL)
def test_the_ends_are_the_given_pictures_bit_for_bit(interpolator: Interpolator) -> None:
    first, second = faults.moving_scene(seconds=1)[:2]
    made = interpolator(first.pixels, second.pixels, [0.0, 0.5, 1.0])
    assert torch.equal(made[0], first.pixels)
    assert torch.equal(made[2], second.pixels)
    assert not torch.equal(made[1], first.pixels)


@pytest.mark.parametrize("interpolator", ALL)
def test_between_equal_pictures_nothing_happens(interpolator: Interpolator) -> None:
    first = faults.moving_scene(seconds=1)[0]
    assert torch.equal(interpolator(first.pixels, first.pixels, [0.3])[0], first.pixels)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (3, 2000), (6, 8), (2000, 11), (12, 2000)])
def test_pictures_too_small_for_flow_are_cross_faded(height: int, width: int) -> None:
    noise = torch.randint(0, 256, (3, 3, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    around = [Neighbour(noise[2], -1.0), Neighbour(noise[2], 2.0)]
    for way in (FlowInterpolator(), RefinedInterpolator(FootageRefiner())):
        made = way(noise[0], noise[1], [0.0, 0.3, 1.0], around)
        assert torch.equal(made[[0, 2]], noise[:2])
        if min(height, width) < 12:
            assert torch.equal(made, LinearInterpolator()(noise[0], noise[1], [0.0, 0.3, 1.0]))


def test_light_that_changes_is_linear() -> None:
    dark, light = (torch.full((3, 20, 20), value, dtype=torch.uint8) for value in (40, 80))
    assert LinearInterpolator()(dark, light, [0.25]).unique().tolist() == [50]


@pytest.mark.parametrize("interpolator", [LinearInterpolator(), FlowInterpolator()], ids=repr)
def test_half_levels_are_rounded_up_as_often_as_down(interpolator: Interpolator) -> None:
    first = torch.randint(40, 200, (3, 48, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    made = interpolator(first, first + 1, [0.5])[0]
    assert float((made.float() - first.float()).mean()) == pytest.approx(0.5, abs=0.05)


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
    with pytest.raises(BadArgument, match="one size"):
        FlowInterpolator()(first.pixels, second.pixels, [0.5], [Neighbour(first.pixels[:, :60], -1.0)])
    for share in (0.0, 1.0):
        with pytest.raises(BadArgument, match="neither before 0 nor after 1"):
            LinearInterpolator()(first.pixels, second.pixels, [0.5], [Neighbour(first.pixels, share)])


def scenes_error(seed: int, speed: float, share: float, size_px: tuple[int, int]) -> dict[str, float]:
    """Mean square error of each interpolator on a synthetic world whose middle is known."""
    from legato.data.scenes import random_scene

    scene = random_scene(torch.Generator().manual_seed(seed), things=3, speed=speed)
    times = [Fraction(1), Fraction(1) + Fraction(share).limit_denominator(100) / 10, Fraction(11, 10)]
    first, middle, last = scene.frames(Timeline.from_seconds(times), *size_px)
    return {
        type(i).__name__: float(
            (between(first, last, [middle.time], i).pixels[0].float() - middle.pixels.float()).square().mean()
        )
        for i in ALL
    }


@pytest.mark.parametrize("seed", range(4))
def test_motion_too_fast_to_follow_does_half_the_harm(seed: int) -> None:
    error = scenes_error(seed, speed=6.0, share=0.5, size_px=(96, 128))
    plain, harm, careless = (error[f"{name}Interpolator"] for name in ("Linear", "Flow", "SimpleFlow"))
    assert harm - plain < 0.5 * (careless - plain), error


@pytest.mark.parametrize("size_px", [(40, 1100), (540, 720), (33, 47)])
def test_any_size_and_shape_is_taken(size_px: tuple[int, int]) -> None:
    error = scenes_error(2, speed=0.3, share=0.4, size_px=size_px)
    assert error["FlowInterpolator"] < 0.7 * error["LinearInterpolator"], error


def test_noise_without_motion_is_averaged() -> None:
    numbers = torch.Generator().manual_seed(0)
    ground = faults.moving_scene(seconds=1)[0].pixels.float()
    noisy = [
        (ground + 4 * torch.randn(ground.shape, generator=numbers)).round().clamp(0, 255).to(torch.uint8)
        for _ in range(2)
    ]
    off = {type(i).__name__: float((i(*noisy, [0.5])[0].float() - ground).square().mean()) for i in BOTH}
    assert off["FlowInterpolator"] < 1.1 * off["LinearInterpolator"], off


def panned(columns: Sequence[int], size_px: tuple[int, int] = (120, 200)) -> list[torch.Tensor]:
    """Views of a soft pattern from these columns on, none over 40."""
    rows = torch.rand((1, 3, 30, 60), generator=torch.Generator().manual_seed(1))
    wide = torch.nn.functional.interpolate(rows, size=(size_px[0], size_px[1] + 40), mode="bicubic")[0]
    return [wide.clamp(0, 1).mul(255)[:, :, n : n + size_px[1]].round().to(torch.uint8) for n in columns]


def off(made: torch.Tensor, true: torch.Tensor) -> float:
    """Mean square difference, without a margin of what comes into view."""
    return float((made.float() - true.float())[..., 40:-40].square().mean())


@pytest.mark.parametrize(("columns", "share"), [((8, 8, 14, 24), -1.0), ((0, 4, 12, 24), -0.5), ((12, 0, 8, 20), -2.0)])
@pytest.mark.parametrize("size_px", [(120, 200), (360, 800)])  # as it is, and on a coarser grid
def test_what_speeds_up_is_where_it_is_at_that_time(
    columns: tuple[int, ...], share: float, size_px: tuple[int, int]
) -> None:
    """A view that pans: where it is before, at the first, in the middle, and at the second picture; and backwards."""
    before, first, middle, second = panned(columns, size_px)
    even, bent = (FlowInterpolator()(first, second, [0.5], e)[0] for e in ((), [Neighbour(before, share)]))
    assert off(bent, middle) < 0.5 * off(even, middle)
    mirrored = FlowInterpolator()(second, first, [0.5], [Neighbour(before, 1 - share)])[0]
    assert off(mirrored, middle) < 0.5 * off(even, middle)


@pytest.mark.parametrize("third", [1, 2])
def test_both_sides_tell_of_a_bend_that_changes(third: int) -> None:
    """A view whose place is a cubic of the time: at -1, 0, a third of the way, 1 and 2."""
    places = [12 + 6 * at + 2 * (at**3 - at) for at in (-1.0, 0.0, third / 3, 1.0, 2.0)]
    before, first, middle, second, after = panned([round(place) for place in places])
    around = [Neighbour(before, -1.0), Neighbour(after, 2.0)]
    told = [around, around[:1], around[1:], []]
    both, *others = (off(FlowInterpolator()(first, second, [third / 3], some)[0], middle) for some in told)
    assert all(both < other for other in others), (both, others)


def test_what_goes_on_as_it_did_goes_straight() -> None:
    before, first, middle, second, after = panned((0, 10, 15, 20, 30))
    for around in ([Neighbour(before, -1.0)], [Neighbour(before, -1.0), Neighbour(after, 2.0)]):
        even, bent = (FlowInterpolator()(first, second, [0.5], some)[0] for some in ((), around))
        assert off(bent, middle) < off(even, middle) + 0.5


@pytest.mark.parametrize("share", [-3.0, -0.1, 1.1, 4.0])
def test_a_picture_too_far_or_too_near_tells_nothing(share: float) -> None:
    before, first, second = panned((8, 8, 24))
    alone, told = (FlowInterpolator()(first, second, [0.5], e) for e in ((), [Neighbour(before, share)]))
    assert torch.equal(alone, told)


@pytest.mark.parametrize("shares", [(-1.0,), (2.0,), (-1.0, 2.0)])
def test_pictures_of_something_else_hardly_matter(shares: tuple[float, ...]) -> None:
    first, middle, second = panned((0, 5, 10))
    other = panned((0,))[0].flip(-1).roll(1, 0)
    told = FlowInterpolator()(first, second, [0.5], [Neighbour(other, share) for share in shares])[0]
    assert off(told, middle) < 0.002 * off(LinearInterpolator()(first, second, [0.5])[0], middle)


def test_what_comes_into_view_is_taken_from_the_picture_that_shows_it() -> None:
    """A view that pans: at the left edge only the first picture knows what is there, at the right only the second."""
    view = panned((0, 10, 20))
    middle = FlowInterpolator()(view[0], view[2], [0.5])[0]
    faded = LinearInterpolator()(view[0], view[2], [0.5])[0]
    for edge in (slice(0, 10), slice(190, 200)):
        error = [float((m.float() - view[1].float())[..., edge].abs().mean()) for m in (middle, faded)]
        assert error[0] < 0.5 * error[1], error
