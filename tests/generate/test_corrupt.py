"""Levels are nested, given frames never change, and noise is measured in seconds from them."""

import itertools

import pytest
import torch

from legato.errors import BadArgument
from legato.generate.corrupt import (
    Bisection,
    Corruption,
    FrameLevels,
    RandomNested,
    UniformStrides,
    replaced_proposals,
    time_to_nearest,
)
from legato.motion.between_features import filled_linearly


def given(time: int = 17, *more: int) -> torch.Tensor:
    mask = torch.zeros(2, time, dtype=torch.bool)
    mask[:, [0, -1, *more]] = True
    return mask


@pytest.mark.parametrize("levels", [UniformStrides(), Bisection(4), RandomNested(torch.Generator().manual_seed(0), 5)])
@pytest.mark.parametrize("time", [2, 3, 16, 33])
def test_levels_are_nested_from_all_frames_to_the_given_ones(levels: FrameLevels, time: int) -> None:
    mask = given(time)
    masks = levels.masks(mask)
    assert bool(masks[0].all())
    assert torch.equal(masks[-1], mask)
    for finer, coarser in itertools.pairwise(masks):
        assert not bool((coarser & ~finer).any())
        assert not bool((mask & ~coarser).any())


def test_bisection_keeps_the_middle_longest() -> None:
    masks = Bisection(6).masks(given(17))
    order = [17 - int(masks[:, 0, at].sum()) for at in range(17)]
    kept = masks.sum(0)[0].tolist()
    assert kept[8] == max(kept[1:-1])
    assert kept[4] >= kept[2]
    assert order[0] < order[1]


def test_uniform_strides_halve() -> None:
    counts = UniformStrides().masks(given(17)).sum(2)[:, 0].tolist()
    assert counts == [17, 9, 5, 3, 2, 2]


def test_the_ends_have_to_be_given() -> None:
    with pytest.raises(BadArgument, match="first and the last"):
        Bisection().masks(torch.tensor([[True, False, False]]))


def test_distance_is_in_seconds() -> None:
    seconds = torch.tensor([[0.0, 0.1, 0.4, 0.45, 1.0]], dtype=torch.float64)
    kept = torch.tensor([[True, False, False, True, True]])
    expected = torch.tensor([[0.0, 0.1, 0.05, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(time_to_nearest(seconds, kept), expected)


@pytest.mark.parametrize("mode", ["none", "distance", "gaussian"])
def test_kept_frames_are_never_touched_by_one_bit(mode: str) -> None:
    numbers = torch.Generator().manual_seed(0)
    clip = torch.randn(2, 9, 3, 4, 4, generator=numbers)
    seconds = torch.arange(9, dtype=torch.float64).repeat(2, 1) / 10
    kept = given(9, 4)
    corruption = Corruption(mode, amplitude=0.5)
    made = corruption(filled_linearly(clip, seconds, kept), seconds, kept)
    assert torch.equal(made[kept], clip[kept])
    strength = corruption.strength(seconds, kept)
    assert float(strength[kept].max()) == 0
    if mode == "distance":
        assert float(strength[0, 2]) > float(strength[0, 1]) > 0
    if mode == "gaussian":
        assert set(strength[~kept].tolist()) == {0.5}


def test_only_proposals_are_replaced() -> None:
    numbers = torch.Generator().manual_seed(0)
    clip, made = torch.zeros(50, 9, 2), torch.ones(50, 9, 2)
    proposed = torch.zeros(50, 9, dtype=torch.bool)
    proposed[:, 4] = True
    out = replaced_proposals(clip, proposed, made, 0.5, numbers)
    assert 10 < float(out[:, 4, 0].sum()) < 40
    assert float(out.sum()) == 2 * float(out[:, 4, 0].sum())
    assert torch.equal(replaced_proposals(clip, proposed, made, 0.0, numbers), clip)
    with pytest.raises(BadArgument, match="share"):
        replaced_proposals(clip, proposed, made, 1.5)


def test_an_unknown_mode_is_told() -> None:
    with pytest.raises(BadArgument, match="expected none, distance or gaussian"):
        Corruption("snow")
