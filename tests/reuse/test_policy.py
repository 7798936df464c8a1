"""Policies: who is selected, and how the age limit spreads its work."""

import pytest
import torch

from legato.errors import BadArgument
from legato.reuse import Hierarchical, Look, MaxAge, Plan, RandomFraction, Threshold, TopFraction


def look(change: torch.Tensor, seconds: float = 10.0, recomputed_at: float | torch.Tensor = 10.0) -> Look:
    at = (
        torch.full(change.shape, recomputed_at, dtype=torch.float64)
        if isinstance(recomputed_at, float)
        else recomputed_at
    )
    return Look(seconds, change, at, 0.0, torch.zeros_like(at))


def test_threshold_selects_what_exceeds_it_and_dilation_its_neighbours() -> None:
    change = torch.zeros(6, 6)
    change[2, 2], change[5, 5] = 1.0, 0.3
    assert Threshold(0.2).select(look(change)).nonzero().tolist() == [[2, 2], [5, 5]]
    around = Threshold(0.2, dilation=1, strong=3.0).select(look(change))
    assert int(around.sum()) == 10
    assert bool(around[1, 1])
    assert not bool(around[4, 4])


@pytest.mark.parametrize("policy", [TopFraction(0.25), Hierarchical(0.25)])
def test_a_budget_is_never_exceeded_and_never_spent_on_nothing(policy: object) -> None:
    torch.manual_seed(0)
    assert int(policy.select(look(torch.rand(8, 8))).sum()) == 16
    assert int(policy.select(look(torch.zeros(8, 8))).sum()) == 0
    few = torch.zeros(8, 8)
    few[3, 3] = 1.0
    assert bool(policy.select(look(few))[3, 3])


def test_random_repeats_for_a_time_and_differs_between_times() -> None:
    policy, change = RandomFraction(0.5, seed=3), torch.zeros(16, 16)
    assert torch.equal(policy.select(look(change, 1.0)), policy.select(look(change, 1.0)))
    assert not torch.equal(policy.select(look(change, 1.0)), policy.select(look(change, 1.04)))


@pytest.mark.parametrize("rate", [5, 15, 30, 60])
def test_no_token_gets_older_than_the_limit_at_any_rate_and_the_work_is_spread(rate: int) -> None:
    policy, quiet = MaxAge(Threshold(1.0), seconds=1.0), torch.zeros(16, 16)
    recomputed_at = torch.zeros(16, 16, dtype=torch.float64)
    counts = []
    for frame in range(1, 4 * rate):
        now = frame / rate
        selected = policy.select(look(quiet, now, recomputed_at))
        recomputed_at = torch.where(selected, torch.tensor(now, dtype=torch.float64), recomputed_at)
        counts.append(int(selected.sum()))
        assert float((now - recomputed_at).max()) <= 1.0
    even = 256 / rate
    assert max(counts) <= 2 * even + 4
    assert sum(counts) == pytest.approx(256 * (4 - 1 / rate), rel=0.1)


def test_irregular_times_keep_the_limit_too() -> None:
    policy, quiet = MaxAge(Threshold(1.0), seconds=0.5), torch.zeros(8, 8)
    recomputed_at, now = torch.zeros(8, 8, dtype=torch.float64), 0.0
    for step in [0.01, 0.2, 0.033, 0.4, 0.002, 0.7, 0.1] * 5:
        now += step
        selected = policy.select(look(quiet, now, recomputed_at))
        recomputed_at = torch.where(selected, torch.tensor(now, dtype=torch.float64), recomputed_at)
        assert float((now - recomputed_at).max()) <= 0.5


@pytest.mark.parametrize("busy_share", [0.0, 0.05, 0.3])
def test_the_more_is_recomputed_the_sooner_held_tokens_are_refreshed_and_never_many_at_once(busy_share: float) -> None:
    policy, quiet, rate = MaxAge(Threshold(1.0), seconds=8.0, turnover=10.0), torch.zeros(16, 16), 20
    recomputed_at = torch.zeros(16, 16, dtype=torch.float64)
    turnover, turnover_at, counts = 0.0, torch.zeros(16, 16, dtype=torch.float64), []
    for frame in range(1, 20 * rate):
        now = frame / rate
        selected = policy.select(Look(now, quiet, recomputed_at, turnover, turnover_at))
        recomputed_at = torch.where(selected, torch.tensor(now, dtype=torch.float64), recomputed_at)
        turnover_at = torch.where(selected, torch.tensor(turnover, dtype=torch.float64), turnover_at)
        counts.append(int(selected.sum()))
        assert float((now - recomputed_at).max()) <= 8.0
        if 5 * rate <= frame < 15 * rate:  # for ten seconds something happens elsewhere
            turnover += busy_share
    still, busy = 256 / rate / 8, 256 * (1 / rate / 8 + busy_share / 10)
    assert max(counts) <= busy + 4
    assert sum(counts[: 5 * rate]) == pytest.approx(5 * rate * still, rel=0.1)
    assert sum(counts[5 * rate + 1 : 15 * rate]) == pytest.approx(10 * rate * busy, rel=0.1)
    assert sum(counts[15 * rate + 1 :]) == pytest.approx(5 * rate * still, rel=0.1)


def test_a_plan_holds_recomputes_some_or_all() -> None:
    none = torch.zeros(4, 4, dtype=torch.bool)
    some, most = none.clone(), ~none
    some[1, 2] = True
    most[0, 0] = False
    assert Plan.of(none, 0.9).mode == "hold"
    assert (Plan.of(some, 0.9).mode, Plan.of(some, 0.9).tokens.tolist()) == ("partial", [6])
    assert (Plan.of(most, 0.9).mode, len(Plan.of(most, 0.9).tokens)) == ("full", 16)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Threshold(-1.0),
        lambda: TopFraction(1.2),
        lambda: Hierarchical(-0.1),
        lambda: MaxAge(Threshold(1.0), 0.0),
        lambda: MaxAge(Threshold(1.0), 4.0, turnover=1.0),
    ],
)
def test_impossible_settings_are_refused(make: object) -> None:
    with pytest.raises(BadArgument):
        make()
