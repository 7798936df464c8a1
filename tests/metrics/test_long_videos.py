"""What is reckoned up at the end: the same as the plain way, and feasible after hours of video."""

from array import array

import numpy as np
import pytest

from legato.metrics import Freezes, Seams
from legato.metrics.seams import LEAST_REPEATS, LEAST_SCORE, LONGEST_PERIOD, MOST_BY_CHANCE, found_period

HOURS = 200_000  # frames; comparing all with all would take minutes


def plain_period(jump: np.ndarray) -> tuple[int, int]:
    known = jump[np.isfinite(jump)]
    if len(known) < 2 * LEAST_REPEATS:
        return 0, 0
    centre = np.median(known)
    spread = max(1.4826 * np.median(np.abs(known - centre)), 0.02 * centre)
    best = (LEAST_SCORE, 0, 0)
    longest = min((np.flatnonzero(np.isfinite(jump))[-1] + 1) // LEAST_REPEATS, LONGEST_PERIOD)
    for period in range(2, longest + 1):
        for phase in range(1, period + 1):
            comb = np.minimum(jump[phase::period], 8 * centre)
            comb = comb[np.isfinite(comb)]
            if len(comb) < LEAST_REPEATS:
                continue
            low = np.quantile(comb, 0.2, method="lower")
            by_chance = longest**2 / 2 * np.mean(known >= low) ** (len(comb) - (len(comb) - 1) // 5)
            score = (np.median(comb) - centre) / spread * np.sqrt(len(comb))
            if low > centre + 2 * spread and by_chance < MOST_BY_CHANCE and score > best[0] * 1.001:
                best = (score, period, phase)
    return best[1], best[2]


@pytest.mark.parametrize("seed", range(40))
def test_a_period_is_found_as_by_trying_every_comb(seed: int) -> None:
    numbers = np.random.default_rng(seed)
    jump = numbers.lognormal(0, 0.3, int(numbers.integers(3, 160)))
    if seed % 4:
        period = int(numbers.integers(2, 30))
        jump[int(numbers.integers(0, period + 1)) :: period] *= numbers.uniform(2, 8)
    jump[numbers.random(len(jump)) < (0, 0.02, 0.2)[seed % 3]] = np.nan
    before = jump.copy()
    assert found_period(jump) == plain_period(jump)
    np.testing.assert_array_equal(jump, before)


def test_the_period_of_hours_of_seams() -> None:
    jump = np.random.default_rng(0).lognormal(0, 0.3, HOURS)
    jump[0] = np.nan
    assert found_period(jump) == (0, 0)
    jump[40::96] *= 3
    assert found_period(jump) == (96, 40)


def test_where_few_boundaries_are_all_have_to_jump() -> None:
    jump = np.random.default_rng(1).lognormal(0, 0.1, 60)
    jump[[15, 30, 45]] = 6.0
    assert found_period(jump) == (15, 15)
    jump[45] = 1.0
    assert found_period(jump) == (0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_rare_large_jumps_have_no_period(seed: int) -> None:
    jump = np.random.default_rng(seed).lognormal(0, 0.1, 700)
    jump[np.random.default_rng(seed).integers(1, 700, 60)] = 6.0
    assert found_period(jump) == (0, 0)


def plain_jump(seconds: np.ndarray, *signals: np.ndarray) -> np.ndarray:
    """The larger of two signals, each over its median within half a second, frame by frame."""
    relative = np.full((len(signals), len(seconds)), np.nan)
    for row, signal in zip(relative, signals, strict=True):
        for at in np.flatnonzero(np.isfinite(signal)):
            near = signal[np.abs(seconds - seconds[at]) <= 0.5]
            row[at] = (signal[at] + 0.05) / (np.nanmedian(near) + 0.05)
    return np.fmax(*relative)


def seams(seconds: np.ndarray, residual: np.ndarray, second: np.ndarray) -> Seams:
    rows = np.stack([seconds, residual, second, np.zeros_like(seconds), np.zeros_like(seconds)], axis=1)
    return Seams(rows=array("d", rows.ravel()))


@pytest.mark.parametrize("seed", range(10))
def test_jumps_are_those_of_every_frame_by_itself(seed: int) -> None:
    numbers = np.random.default_rng(seed)
    count = int(numbers.integers(8, 400))
    seconds = np.cumsum(numbers.uniform(0.005, 0.05 if seed % 2 else 0.4, count))
    signals = numbers.lognormal(0, 0.5, (2, count))
    signals[numbers.random((2, count)) < (0.0, 0.3)[seed % 2]] = np.nan
    curve = seams(seconds, *signals.copy()).result()[0].curve
    assert curve is not None
    signals[1, :-1] = np.fmin(signals[1, :-1], signals[1, 1:])
    jump = plain_jump(seconds, *signals)
    times, values = curve.points
    np.testing.assert_array_equal(times, seconds[np.isfinite(jump)])
    np.testing.assert_allclose(values, jump[np.isfinite(jump)], rtol=1e-12)


def test_the_seams_of_hours() -> None:
    signals = np.random.default_rng(0).lognormal(0, 0.3, (2, HOURS))
    signals[:, :2] = np.nan
    signals[0, 40::96] *= 6
    found = {m.name: m.value for m in seams(np.arange(HOURS) / 30, *signals).result()}
    assert found["seam_period"] == 96
    assert found["seams"] == pytest.approx(6, rel=0.3)


def plain_repeats(seconds: np.ndarray, change: np.ndarray, largest: np.ndarray) -> int:
    """Each pair against all others, as the class says it."""
    lively = largest > 1
    repeats = int(np.sum(largest <= 1))
    for at in np.flatnonzero(lively & (change < 1)):
        others = lively & (np.abs(seconds - seconds[at]) <= 0.25)
        others[at] = False
        repeats += int(others.sum() >= 2 and change[at] < 0.1 * np.median(change[others]))
    return repeats


def freezes(seconds: np.ndarray, change: np.ndarray, largest: np.ndarray) -> Freezes:
    rows = np.stack([seconds, np.diff(seconds, prepend=seconds[0] - 1 / 30), change, largest], axis=1)
    return Freezes(times=array("d", rows.ravel()))


@pytest.mark.parametrize("seed", range(20))
def test_repeats_are_those_of_comparing_every_pair_with_all_others(seed: int) -> None:
    numbers = np.random.default_rng(seed)
    count = int(numbers.integers(1, 200))
    seconds = np.cumsum(numbers.uniform(0.005, 0.2, count))
    change = numbers.choice([0.0, 0.1, 0.5, 4.0], count) * numbers.uniform(0.5, 1.5, count)
    largest = np.where(numbers.random(count) < 0.2, 1.0, 30.0)
    found = {m.name: m.value for m in freezes(seconds, change, largest).result()}
    assert found["repeated_frames"] == plain_repeats(seconds, change, largest)


def test_the_repeats_of_hours() -> None:
    change = np.full(HOURS, 4.0)
    change[::4] = 0.2
    largest = np.full(HOURS, 30.0)
    largest[1::400] = 0.0
    found = {m.name: m.value for m in freezes(np.arange(HOURS) / 30, change, largest).result()}
    assert found["repeated_frames"] == HOURS // 4 + HOURS // 400
    assert found["longest_freeze"] == pytest.approx(2 / 30)
