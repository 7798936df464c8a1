"""The synthetic worlds that other tests take for the truth."""

from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from legato.data.scenes import (
    Bar,
    Circular,
    Disc,
    Fade,
    Film,
    Flash,
    Linear,
    Oscillating,
    Scene,
    Still,
    Texture,
    Waypoints,
    random_scene,
)
from legato.errors import BadArgument
from legato.video.timeline import Timeline

BLACK = Texture(colour=(0, 0, 0), contrast=0)
WHITE = Texture(colour=(1, 1, 1), contrast=0)


def scene(seed: int = 0, **settings: float) -> Scene:
    return random_scene(torch.Generator().manual_seed(seed), **settings)


def centroid_px(picture: torch.Tensor) -> tuple[float, float]:
    """Mean column and row of the brightness of one RGB picture, pixel 0 being at 0.5."""
    weight = picture.double().sum(0)
    rows, columns = torch.arange(weight.shape[0]) + 0.5, torch.arange(weight.shape[1]) + 0.5
    return float((weight.sum(0) * columns).sum() / weight.sum()), float((weight.sum(1) * rows).sum() / weight.sum())


def sampled(picture: np.ndarray, column: float, row: float) -> np.ndarray:
    """Bilinear sample of `(3, h, w)` at a pixel position, spelled out; pixel centres are whole numbers."""
    left, top = min(int(column), picture.shape[2] - 2), min(int(row), picture.shape[1] - 2)
    a, b = column - left, row - top
    four = picture[:, top : top + 2, left : left + 2]
    return (1 - b) * ((1 - a) * four[:, 0, 0] + a * four[:, 0, 1]) + b * ((1 - a) * four[:, 1, 0] + a * four[:, 1, 1])


def test_content_depends_on_the_time_and_not_on_the_rate():
    slow, fast = Timeline.constant(seconds=1, rate=10), Timeline.constant(seconds=1, rate=30)
    at_slow, at_fast = scene().render(slow, 36, 48), scene().render(fast, 36, 48)
    assert torch.equal(at_slow, at_fast[::3])
    assert not torch.equal(at_slow[0], at_slow[1])


def test_floats_fractions_and_tensors_are_the_same_times():
    exact = [Fraction(0), Fraction(1, 4), Fraction(3, 8)]
    expected = scene().render(exact, 24, 32)
    assert torch.equal(expected, scene().render([0, 0.25, 0.375], 24, 32))
    assert torch.equal(expected, scene().render(torch.tensor([0, 0.25, 0.375]), 24, 32))
    assert scene().render([], 24, 32).shape == (0, 3, 24, 32)


def test_frames_keep_the_exact_times():
    timeline = Timeline.constant(seconds=Fraction(1, 5), rate=Fraction(30000, 1001))
    frames = scene().frames(timeline, 24, 32)
    assert tuple(frame.time for frame in frames) == timeline.times
    assert torch.equal(frames.pixels, scene().render(timeline, 24, 32))


@pytest.mark.parametrize(
    ("path", "at_half_a_second"),
    [
        (Still((0.3, 0.6)), (0.3, 0.6)),
        (Linear((0.3, 0.4), (0.2, 0.1)), (0.4, 0.45)),
        (Circular((0.5, 0.5), 0.25, period_seconds=2.0), (0.5, 0.75)),
        (Oscillating((0.5, 0.5), (0.2, 0.1), period_seconds=2.0), (0.7, 0.6)),
        (Waypoints(((0.0, (0.2, 0.2)), (1.0, (0.4, 0.6)), (2.0, (0.4, 0.6)))), (0.3, 0.4)),
    ],
)
def test_a_thing_is_drawn_where_its_path_says(path, at_half_a_second):
    world = Scene((Disc(path, 0.15, WHITE),), BLACK)
    (position,) = world.positions([0.5])[0].tolist()
    assert position == pytest.approx(at_half_a_second)
    x, y = centroid_px(world.render([0.5], 60, 80)[0])
    assert (x, y) == pytest.approx((80 * position[0], 60 * position[1]), abs=0.03)


def test_waypoints_rest_outside_their_times_and_must_rise():
    path = Waypoints(((1.0, (0.2, 0.2)), (2.0, (0.4, 0.6))))
    assert path(torch.tensor([0.0, 9.0], dtype=torch.float64)).tolist() == [[0.2, 0.2], [0.4, 0.6]]
    with pytest.raises(BadArgument, match="rising"):
        Waypoints(((1.0, (0, 0)), (1.0, (1, 1))))
    with pytest.raises(BadArgument, match="at least one"):
        Waypoints(())


@pytest.mark.parametrize("offset", [0.0, 0.003, 0.0071])
def test_edges_are_anti_aliased_so_that_area_does_not_depend_on_the_place(offset):
    disc = Scene((Disc(Still((0.5 + offset, 0.5 + offset / 2)), 0.3, WHITE),), BLACK).render([0], 50, 70)[0, 0]
    bar = Bar(Still((0.5 + offset, 0.5)), 0.6, 0.2, WHITE, angle_turns=0.07)
    assert disc.double().sum() / 255 == pytest.approx(np.pi * 15**2, rel=0.003)
    assert Scene((bar,), BLACK).render([0], 50, 70)[0, 0].double().sum() / 255 == pytest.approx(30 * 10, rel=0.02)


def test_a_larger_picture_shows_the_same():
    small, large = scene().render([0.4], 45, 60)[0], scene().render([0.4], 180, 240)[0]
    averaged = F.avg_pool2d(large.float(), 4)
    assert (averaged - small).abs().mean() < 4
    assert (averaged - small.flip(-1)).abs().mean() > 20


def test_the_camera_moves_the_whole_world():
    moved = Scene((Disc(Still((0.5, 0.5)), 0.2, WHITE),), Texture(seed=5), camera=Linear((0, 0), (0.25, -0.125)))
    assert moved.positions([1.0])[0, 0].tolist() == pytest.approx([0.25, 0.625])
    before, after = moved.render([0, 1], 64, 96).short()
    shifted = before[:, :56, 24:] - after[:, 8:, :72]  # 24 px to the left, 8 px down
    assert shifted.abs().max() <= 1
    assert torch.equal(moved.motion(0, 1, 64, 96).flow[:, 5, 50], torch.tensor([-24.0, 8.0]))


def test_flow_says_where_every_visible_pixel_went():
    world = scene(4, speed=0.5)
    now, then = world.render([0.3, 0.42], 120, 160).numpy().astype(float)
    motion = world.motion(0.3, 0.42, 120, 160)
    layer = motion.layer[None].float()
    inner = F.max_pool2d(layer, 5, 1, 2) == -F.max_pool2d(-layer, 5, 1, 2)
    flow, off, still = motion.flow.numpy(), [], []
    for row, column in (motion.visible & inner[0]).nonzero().tolist():
        x, y = column + flow[0, row, column], row + flow[1, row, column]
        if 0 <= x <= 159 and 0 <= y <= 119:
            off.append(np.abs(sampled(then, x, y) - now[:, row, column]).mean())
            still.append(np.abs(then[:, row, column] - now[:, row, column]).mean())
    assert len(off) > 12000
    assert np.percentile(off, 95) < 3
    assert np.mean(still) > 20 * np.mean(off)


def test_flow_of_a_moving_and_of_a_turning_thing_is_exact():
    world = Scene(
        (
            Disc(Linear((0.3, 0.5), (0.2, -0.1)), 0.2),
            Bar(Still((0.75, 0.5)), 0.5, 0.1, angle_turns=0.0, turns_per_second=0.25),
        )
    )
    motion = world.motion(1.0, 3.0, 100, 200)
    assert motion.layer[40, 100] == 1  # the disc is at (0.5, 0.4) at 1 s
    assert motion.flow[:, 40, 100].tolist() == pytest.approx([2 * 0.2 * 200, -2 * 0.1 * 100])
    assert motion.layer[70, 150] == 2  # the bar stands upright at 1 s and again, upside down, at 3 s
    assert motion.flow[:, 70, 150].tolist() == pytest.approx([-1, -41], abs=1e-3)
    assert motion.flow[:, 5, 5].tolist() == [0, 0]
    back = world.motion(3.0, 1.0, 100, 200)
    assert back.flow[:, 20, 180].tolist() == pytest.approx([-80, 20])


def test_what_is_covered_or_leaves_the_frame_is_not_visible():
    world = Scene((Bar(Linear((0.25, 0.5), (0.25, 0)), 0.25, 0.5, WHITE),), BLACK)
    motion = world.motion(0.0, 1.0, 40, 80)  # from columns 15-25 to 35-45, rows 10-30
    hidden = ~motion.visible
    expected = torch.zeros(40, 80, dtype=torch.bool)
    expected[10:30, 35:45] = True
    assert torch.equal(hidden, expected)
    half_out = world.motion(0.0, 3.0, 40, 80).visible[10:30, 15:25]
    assert half_out.tolist() == [5 * [True] + 5 * [False]] * 20
    later = world.layers([0.0, 1.0], 40, 80)
    assert later[0, 20, 20] == 1
    assert later[1, 20, 20] == 0


def test_light_multiplies_pixel_values():
    grey = Texture(colour=(0.4, 0.4, 0.4), contrast=0)
    faded = Scene(background=grey, light=Fade(1.0, 2.0)).render([0, 1.5, 3], 4, 4)
    assert faded[:, 0, 0, 0].tolist() == [0, 51, 102]
    flashed = Scene(background=grey, light=Flash(0.5, 0.1, gain=2.0)).render([0.4, 0.5, 0.59, 0.6], 4, 4)
    assert flashed[:, 0, 0, 0].tolist() == [102, 204, 204, 102]


@pytest.mark.parametrize("rate", [24, Fraction(30000, 1001), 60])
def test_a_film_cuts_at_its_times(rate):
    film = Film((Scene(background=BLACK), Scene(background=WHITE), Scene(background=BLACK)), (Fraction(1, 2), 0.75))
    timeline = Timeline.constant(seconds=1, rate=rate)
    white = film.render(timeline, 4, 4)[:, 0, 0, 0] == 255
    assert white.tolist() == [Fraction(1, 2) <= time < Fraction(3, 4) for time in timeline]


def test_a_film_needs_one_cut_fewer_than_scenes():
    with pytest.raises(BadArgument, match="one cut fewer"):
        Film((Scene(),), (1.0,))
    with pytest.raises(BadArgument, match="rising"):
        Film((Scene(), Scene(), Scene()), (1.0, 1.0))


def test_random_scenes_follow_the_generator_alone():
    torch.manual_seed(1)
    first = scene(7).render([0.2], 24, 32)
    torch.manual_seed(2)
    assert torch.equal(first, scene(7).render([0.2], 24, 32))
    assert not torch.equal(first, scene(8).render([0.2], 24, 32))


def test_a_frame_without_pixels_is_refused():
    with pytest.raises(BadArgument, match="at least one pixel"):
        scene().render([0], 0, 4)
