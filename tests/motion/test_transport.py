"""Tokens are found where they went, to a tenth of a token, and not forced onto something else where they are hidden."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from legato.errors import BadArgument
from legato.motion.transport import Matches, Transport

SIDE, MARGIN = 14, 4
SHIFTS = [(1, 0), (0, -2), (3, 3), (-3, 1)]


def world(smooth_tokens: float, seed: int = 0, channels: int = 16) -> Callable[[float, float], torch.Tensor]:
    """Random features, white or smooth, as seen by a grid after everything moved by x and y tokens."""
    wide = torch.randn(channels, 1, *(SIDE + 2 * MARGIN,) * 2, generator=torch.Generator().manual_seed(seed))
    if smooth_tokens:
        reach = torch.arange(-9, 10)
        kernel = torch.exp(-(reach[:, None] ** 2 + reach**2) / (2 * smooth_tokens**2))
        wide = F.conv2d(F.pad(wide, (9, 9, 9, 9), mode="circular"), kernel[None, None])
    wide = (wide / wide.std()).transpose(0, 1)

    def seen(x: int, y: int) -> torch.Tensor:
        return wide[:, :, MARGIN - y : MARGIN - y + SIDE, MARGIN - x : MARGIN - x + SIDE]

    return seen


def stays(x: int, y: int) -> torch.Tensor:
    """Which tokens are still in view after a shift."""
    at = torch.arange(SIDE)
    return ((at + y >= 0) & (at + y < SIDE))[:, None] & ((at + x >= 0) & (at + x < SIDE))


def distance(matches: Matches, x: int, y: int) -> torch.Tensor:
    return (matches.forward[0] - torch.tensor([x, y])[:, None, None]).norm(dim=0)


@pytest.mark.parametrize("smooth_tokens", [0, 1, 2])
@pytest.mark.parametrize(("x", "y"), SHIFTS)
def test_shifts_of_tokens_are_found_to_a_tenth(smooth_tokens: float, x: int, y: int) -> None:
    seen = world(smooth_tokens)
    matches = Transport()(seen(0, 0), seen(x, y))
    still = stays(x, y)
    assert float(distance(matches, x, y)[still].mean()) < 0.1
    assert float(matches.forward_share[0][still].mean()) > 0.9
    assert float(matches.forward_share[0][~still].mean()) < 0.2, "what leaves goes to the dustbin"
    back = Transport()(seen(x, y), seen(0, 0))
    sure = matches.backward_share > 0.5
    assert float((back.forward - matches.backward).norm(dim=1)[sure].mean()) < 0.05


def test_a_high_temperature_flattens_the_match() -> None:
    seen = world(1)
    error = {t: float(distance(Transport(t)(seen(0, 0), seen(1, 0)), 1, 0).mean()) for t in (0.03, 5.0)}
    assert error[0.03] < 0.1
    assert error[5.0] > 0.8, "a shift of one token is lost"


@pytest.mark.parametrize("smooth_tokens", [0, 2])
def test_a_third_of_tokens_may_be_hidden(smooth_tokens: float) -> None:
    seen, other = world(smooth_tokens), world(smooth_tokens, seed=9)
    first, second = seen(0, 0), seen(2, 0).clone()
    hidden = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    hidden[2:11, 3:10] = True  # 63 of 196
    second[:, :, hidden] = other(0, 0)[:, :, hidden]
    still = stays(2, 0) & ~hidden.roll(-2, 1)
    covered = stays(2, 0) & ~still
    matches = Transport()(first, second)
    assert float(distance(matches, 2, 0)[still].mean()) < 0.1
    assert float(matches.forward_share[0][covered].mean()) < 0.6 < 0.9 < float(matches.forward_share[0][still].mean())
    narrow = Transport(dustbin_share=1 / SIDE**2)(first, second)
    assert float(distance(narrow, 2, 0)[still].mean()) > 5 * float(distance(matches, 2, 0)[still].mean())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_it_counts_in_float32_whatever_comes_in(dtype: torch.dtype) -> None:
    seen = world(1)
    first, second = seen(0, 0).to(dtype), seen(2, 1).to(dtype)
    matches = Transport()(first, second)
    assert matches.forward.dtype == matches.forward_share.dtype == torch.float32
    assert float(distance(matches, 2, 1)[stays(2, 1)].mean()) < 0.1
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(Transport()(first, second).forward, matches.forward)


def test_pairs_do_not_mix_and_size_of_features_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, other = world(1), world(0, seed=3)
    first, second = torch.cat([seen(0, 0), other(0, 0)]), torch.cat([seen(1, 1), 1000 * other(0, 2)])
    both = Transport()(first, second / torch.tensor([1, 1000])[:, None, None, None])
    monkeypatch.setattr("legato.motion.transport.COSTS_AT_ONCE", 1)  # a pair at a time
    alone = Transport()(100 * first, 100 * second / torch.tensor([1, 1000])[:, None, None, None])
    torch.testing.assert_close(both.forward, alone.forward, atol=1e-3, rtol=0)


def test_a_single_token_has_nowhere_to_go() -> None:
    one = torch.ones(2, 3, 1, 1)
    assert float(Transport()(one, -one).forward.abs().max()) == 0


@pytest.mark.parametrize("name", ["temperature", "dustbin_cost", "dustbin_share", "rounds"])
def test_what_has_to_be_positive_is_said(name: str) -> None:
    with pytest.raises(BadArgument, match=f"{name} is 0.*expected more than 0"):
        Transport(**{name: 0 if name == "rounds" else 0.0})
    with pytest.raises(BadArgument, match=r"distance_weight is -1\.0; expected 0 or more"):
        Transport(distance_weight=-1.0)


def test_grids_of_different_sizes_are_refused() -> None:
    with pytest.raises(BadArgument, match="expected one size"):
        Transport()(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 5))
