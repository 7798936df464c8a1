"""Frames of a video at other times."""

import itertools
import threading
import weakref
from collections.abc import Iterator, Sequence
from fractions import Fraction

import pytest
import torch

from legato.errors import BadArgument
from legato.motion.cuts import AdaptiveCuts
from legato.motion.interpolate import LinearInterpolator, Neighbour
from legato.motion.retime import end_of, retimed, shown_at
from legato.video import Frame
from tests import faults

LINEAR = LinearInterpolator()


def grey(level: int, time: Fraction, time_base: Fraction = Fraction(1, 90000)) -> Frame:
    return Frame(torch.full((3, 16, 16), level, dtype=torch.uint8), round(time / time_base), time_base)


def at_rate(rate: int, start: Fraction = Fraction(0)) -> Iterator[Fraction]:
    return (start + Fraction(n, rate) for n in itertools.count())


def levels(frames: Sequence[Frame]) -> list[int]:
    return [int(frame.pixels[0, 0, 0]) for frame in frames]


def test_there_and_back_again_gives_the_very_frames() -> None:
    frames = faults.moving_scene(rate=15, seconds=0.8)
    doubled = [step.frame for step in retimed(frames, at_rate(30))]
    assert len(doubled) == 2 * len(frames)
    assert not torch.equal(doubled[1].pixels, frames[0].pixels)
    back = [step.frame for step in retimed(doubled, at_rate(15))]
    assert [frame.time for frame in back] == [frame.time for frame in frames]
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(back, frames, strict=True))


def test_uneven_frames_are_met_at_their_own_times() -> None:
    uneven = [Fraction(0), Fraction(1, 10), Fraction(4, 10), Fraction(5, 10)]
    frames = [grey(level, time) for level, time in zip((0, 30, 120, 150), uneven, strict=True)]
    made = list(retimed(frames, at_rate(20), LINEAR))
    assert levels([m.frame for m in made]) == [0, 15, 30, 45, 60, 75, 90, 105, 120, 135, 150, 150]
    assert [m.frame.time for m in made] == list(itertools.islice(at_rate(20), 12))
    assert [n for n, m in enumerate(made) if m.origin == "source"] == [0, 2, 8, 10]
    assert made[-1].origin == "held"


def test_a_first_frame_that_the_file_rounded_does_not_shift_the_others() -> None:
    tick = Fraction(1, 1000)
    frames = [grey(20 * n, Fraction(n + 1, 30), tick) for n in range(10)]  # at 0.033, 0.067, 0.100 s: a third more each
    made = list(retimed(frames, at_rate(30, frames[0].time), LINEAR))
    assert [m.origin for m in made] == ["source"] * 10
    doubled = list(retimed(frames, at_rate(60, frames[0].time), LINEAR))
    assert [m.origin for m in doubled][:6] == ["source", "interpolated"] * 3


def test_of_frames_a_tick_apart_the_nearest_counts() -> None:
    tick = Fraction(1, 1000)
    frames = [grey(10 * n, n * tick, tick) for n in range(8)]
    made = list(retimed(frames, (n * tick for n in range(8)), LINEAR))
    assert levels([m.frame for m in made]) == [10 * n for n in range(8)]


def test_times_that_the_file_rounded_are_the_frames_own() -> None:
    frames = [grey(90 * n, Fraction(n, 15), Fraction(1, 1000)) for n in range(3)]  # at 0, 0.067 and 0.133 s
    made = list(retimed(frames, at_rate(15), LINEAR))
    assert [m.origin for m in made] == ["source"] * 3
    assert [m.frame.time for m in made] == [Fraction(n, 15) for n in range(3)]


def test_nothing_is_mixed_across_a_cut() -> None:
    old, new = faults.moving_scene(0, rate=10, seconds=1), faults.moving_scene(5, rate=10, seconds=1)
    frames = [Frame(f.pixels, n, Fraction(1, 10)) for n, f in enumerate(old[:6] + new[:6])]
    times = [Fraction(n, 40) for n in range(48)]
    mixed = list(retimed(frames, times, LINEAR))
    kept = list(retimed(frames, times, LINEAR, cuts=AdaptiveCuts()))
    assert [n for n, m in enumerate(kept) if m.origin == "held"] == [21, 22, 23, 45, 46, 47]
    assert torch.equal(kept[21].frame.pixels, frames[5].pixels)
    assert torch.equal(kept[22].frame.pixels, frames[6].pixels)
    assert torch.equal(kept[23].frame.pixels, frames[6].pixels)
    assert mixed[22].origin == "interpolated"
    same = [n for n in range(48) if torch.equal(mixed[n].frame.pixels, kept[n].frame.pixels)]
    assert same == [n for n in range(48) if n not in (21, 22, 23)]


def test_the_frames_around_are_told_within_a_shot_at_their_times() -> None:
    told: list[list[tuple[int, float]]] = []

    class Noting:
        def __call__(
            self, first: torch.Tensor, second: torch.Tensor, shares: Sequence[float], around: Sequence[Neighbour] = ()
        ) -> torch.Tensor:
            told.append([(int(one.picture[0, 0, 0]), one.share) for one in around])
            return LINEAR(first, second, shares)

    uneven = [Fraction(n, 10) for n in (0, 2, 3, 5, 7)]
    frames = [grey(level, time) for level, time in zip((0, 30, 60, 90, 120), uneven, strict=True)]
    between = [Fraction(n, 20) for n in (1, 5, 7, 11)]
    list(retimed(frames, between, Noting()))
    assert told == [[(60, 1.5)], [(0, -2.0), (90, 3.0)], [(30, -0.5), (120, 2.0)], [(60, -1.0)]]

    told.clear()
    old, new = faults.moving_scene(0, rate=10, seconds=1), faults.moving_scene(5, rate=10, seconds=1)
    frames = [Frame(f.pixels, n, Fraction(1, 10)) for n, f in enumerate(old[:6] + new[:6])]
    list(retimed(frames, [Fraction(2 * n + 1, 20) for n in range(11)], Noting(), cuts=AdaptiveCuts()))
    shares = [[round(share) for _, share in around] for around in told]
    shot = [[2], [-1, 2], [-1, 2], [-1, 2], [-1]]  # nothing of another shot
    assert shares == shot * 2


def test_a_detector_that_needs_longer_needs_a_larger_window() -> None:
    frames = faults.moving_scene(0, rate=10, seconds=1) + faults.moving_scene(5, rate=10, seconds=1)
    frames = [Frame(f.pixels, n, Fraction(1, 10)) for n, f in enumerate(frames)]
    slow = AdaptiveCuts(look_ahead_frames=6)
    with pytest.raises(BadArgument, match="raise window_frames"):
        list(retimed(frames, at_rate(10), LINEAR, cuts=slow))
    assert len(list(retimed(frames, at_rate(10), LINEAR, cuts=slow, window_frames=7))) == 20


@pytest.mark.parametrize("threads", [1, 3])
def test_memory_holds_a_window_of_frames_however_long_the_video(threads: int) -> None:
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most = 0

    def endless() -> Iterator[Frame]:
        for n in itertools.count():
            frame = grey(n % 200, Fraction(n, 10))
            alive.add(frame.pixels)
            yield frame

    made = retimed(endless(), at_rate(25), LINEAR, cuts=AdaptiveCuts(), threads=threads)
    for _ in itertools.islice(made, 300):
        most = max(most, len(alive))
    assert 3 <= most <= 8 + threads  # the frames before and after a gap among them


def test_threads_make_the_same_frames_and_leave_none_behind() -> None:
    frames = faults.moving_scene(rate=10, seconds=0.8, height=48, width=64)
    alone, several = (list(retimed(frames, at_rate(24), threads=n)) for n in (1, 3))
    assert [(m.origin, m.frame.time) for m in several] == [(m.origin, m.frame.time) for m in alone]
    assert all(torch.equal(a.frame.pixels, b.frame.pixels) for a, b in zip(alone, several, strict=True))
    before = threading.active_count()
    left_early = retimed(frames, at_rate(24), threads=2)
    next(left_early)
    left_early.close()
    assert threading.active_count() == before
    with pytest.raises(BadArgument, match="threads is 0"):
        retimed(frames, at_rate(24), threads=0)


def test_extreme_slow_motion_comes_in_small_portions() -> None:
    asked: list[int] = []

    class Counting:
        def __call__(
            self, first: torch.Tensor, second: torch.Tensor, shares: Sequence[float], around: Sequence[Neighbour] = ()
        ) -> torch.Tensor:
            asked.append(len(shares))
            return LINEAR(first, second, shares)

    frames = [grey(0, Fraction(0)), grey(200, Fraction(1))]
    made = itertools.islice(retimed(frames, at_rate(200), Counting()), 201)
    assert levels([step.frame for step in made]) == list(range(201))
    assert max(asked) <= 8


def test_the_last_frame_lasts_as_long_as_the_file_says_if_that_can_be() -> None:
    before, last = grey(0, Fraction(0)), grey(0, Fraction(1, 10))
    assert end_of(last, before, None) == Fraction(2, 10)
    assert end_of(last, before, Fraction(4, 10)) == Fraction(4, 10)
    assert end_of(last, before, Fraction(1, 20)) == Fraction(2, 10)
    assert end_of(last, before, Fraction(600)) == Fraction(2, 10)
    assert end_of(before, None, None) == Fraction(1, 25)
    assert len(list(retimed([before, last], at_rate(10), LINEAR, end=Fraction(4, 10)))) == 4


def test_other_times_are_put_on_frames_exactly() -> None:
    frames = [grey(n, Fraction(n, 10)) for n in range(3)]
    shown = list(shown_at(frames, at_rate(3), Fraction(1, 3)))
    assert [frame.time for frame in shown] == [Fraction(0), Fraction(1, 3), Fraction(2, 3)]
    with pytest.raises(BadArgument, match="no multiple"):
        list(shown_at(frames, at_rate(3), Fraction(1, 10)))


def test_what_cannot_be_is_told() -> None:
    frames = [grey(n, Fraction(n + 1, 10)) for n in range(3)]
    with pytest.raises(BadArgument, match=r"0 s is asked for, and the video begins at 0\.1 s"):
        list(retimed(frames, at_rate(10), LINEAR))
    with pytest.raises(BadArgument, match="rising times"):
        list(retimed(frames, [Fraction(2, 10), Fraction(2, 10)], LINEAR))
    with pytest.raises(BadArgument, match="does not come after"):
        list(retimed([frames[1], frames[0]], at_rate(10, Fraction(2, 10)), LINEAR))
    with pytest.raises(BadArgument, match="no frames"):
        list(retimed([], at_rate(10), LINEAR))
