"""Features between keyframes: the keyframes stay, times count, and what moves is put where it is."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
import torch.nn.functional as F

from legato.errors import BadArgument
from legato.motion.between_features import (
    FeatureInterpolator,
    LinearFeatures,
    SphericalFeatures,
    TokenWarper,
    filled,
    filled_linearly,
)
from legato.motion.warp import warp

ALL = [LinearFeatures(), SphericalFeatures(), TokenWarper(), TokenWarper(straightened=False)]
WARPERS = ALL[2:]
SHARES = (0.25, 0.5, 0.75)
SIDE, MARGIN, FINE = 12, 5, 3
At = Callable[[float], torch.Tensor]


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@cache
def surface(seed: int, smooth_tokens: float) -> Callable[[float, float], torch.Tensor]:
    """Random smooth features seen by a grid after everything moved by any x and y tokens."""
    side = (SIDE + 2 * MARGIN) * FINE
    line = torch.exp(-(torch.arange(-16, 17) ** 2) / (2 * (FINE * smooth_tokens) ** 2))
    wide = F.pad(numbers(8, 1, side, side, seed=seed), (16,) * 4, mode="circular")
    wide = F.conv2d(F.conv2d(wide, line[None, None, None]), line[None, None, :, None])
    wide = (wide / wide.std()).transpose(0, 1)

    def seen(x: float, y: float) -> torch.Tensor:
        at = torch.arange(SIDE) + MARGIN
        columns, rows = ((at - by) * FINE * 2 / (side - 1) - 1 for by in (x, y))
        places = torch.stack([columns.expand(SIDE, SIDE), rows[:, None].expand(SIDE, SIDE)], 2)
        return F.grid_sample(wide, places[None], align_corners=True)

    return seen


def pan(seed: int) -> At:
    seen = surface(seed, 1.0)
    x, y = (numbers(2, seed=seed) * 1.5).clamp(-3, 3).tolist()
    return lambda share: seen(share * x, share * y)


def things(seed: int) -> At:
    """Two squares of their own features that cross a ground at rest."""
    ground, layers = surface(seed, 1.5), [surface(seed + 50 + n, 1.0) for n in range(2)]
    draws = torch.rand(2, 4, generator=torch.Generator().manual_seed(seed)).tolist()
    at = torch.arange(SIDE, dtype=torch.float32)

    def seen(share: float) -> torch.Tensor:
        out = ground(0, 0)
        for layer, (left, top, x, y) in zip(layers, draws, strict=True):
            x, y = share * (8 * x - 4), share * (8 * y - 4)
            across, down = (at - (3 + 6 * left) - x).abs(), (at - (3 + 6 * top) - y).abs()
            cover = (2.5 - torch.maximum(across, down[:, None])).clamp(0, 1)
            out = out + cover * (layer(x, y) - out)
        return out

    return seen


def fade(seed: int, channels: int = 8) -> At:
    """One noise that turns into another in place: whatever seems to move there does not."""
    first, last = numbers(2, 1, channels, SIDE, SIDE, seed=seed)
    return lambda share: torch.lerp(first, last, share)


def cut(seed: int) -> At:
    """Three noises that have nothing to do with each other."""
    frames = numbers(3, 1, 4, SIDE, SIDE, seed=seed)
    return lambda share: frames[0 if share == 0 else 2 if share == 1 else 1]


def tremble(seed: int) -> At:
    """A still ground under noise that is new in each frame."""
    ground = surface(seed, 2.0)(0, 0)
    return lambda share: ground + 0.3 * numbers(*ground.shape, seed=int(100 * share) + seed)


def errors(interpolator: FeatureInterpolator, scenes: list[At]) -> torch.Tensor:
    """MSE of each scene between its ends."""
    first, last = (torch.cat([scene(share) for scene in scenes]) for share in (0.0, 1.0))
    truth = torch.stack([torch.cat([scene(share) for scene in scenes]) for share in SHARES], 1)
    made = interpolator(first, last, torch.tensor(SHARES).repeat(len(scenes), 1))
    return (made - truth).square().mean((1, 2, 3, 4))


def one_shift(scenes: list[At]) -> torch.Tensor:
    """Straightened linear: all of both keyframes along the one straight line, of whole tokens, that fits best."""
    best = []
    steps = torch.arange(-3.0, 4).tolist()
    for scene in scenes:
        first, last = scene(0), scene(1)
        flows = [torch.tensor([x, y])[None, :, None, None].expand(1, 2, SIDE, SIDE) for x in steps for y in steps]
        fits = [float((warp(last, flow) - first)[..., 4:-4, 4:-4].square().mean()) for flow in flows]
        flow = flows[fits.index(min(fits))]
        made = [torch.lerp(warp(first, -s * flow), warp(last, (1 - s) * flow), s) for s in SHARES]
        best.append(torch.cat([m - scene(s) for m, s in zip(made, SHARES, strict=True)]).square().mean())
    return torch.stack(best)


@pytest.mark.parametrize("interpolator", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_the_ends_are_the_given_features_bit_for_bit(interpolator: FeatureInterpolator, dtype: torch.dtype) -> None:
    first, second = (1e3 * numbers(2, 2, 6, 5, 4)).to(dtype)
    before = first.clone(), second.clone()
    made = interpolator(first, second, torch.tensor([[0.0, 0.5, 1.0], [1.0, 1.0, 0.3]]))
    assert made.dtype == dtype
    assert made.shape == (2, 3, 6, 5, 4)
    assert torch.equal(made[:, 0], torch.stack([first[0], second[1]]))
    assert torch.equal(made[0, 2], second[0])
    assert bool(made.isfinite().all())
    assert not torch.equal(made[0, 1], first[0])
    made.zero_()
    assert torch.equal(first, before[0])
    assert torch.equal(second, before[1])


def test_spherical_keeps_the_size_of_noise_and_turns_evenly() -> None:
    first, second = numbers(2, 1, 4, 16, 16)
    shares = torch.tensor([[0.25, 0.5, 0.75]])
    size = {type(i).__name__: float(i(first, second, shares)[0, 1].std()) for i in ALL[:2]}
    assert size["SphericalFeatures"] == pytest.approx(1, abs=0.05)
    assert size["LinearFeatures"] < 0.8
    quarter = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    angle = torch.atan2(*SphericalFeatures()(*quarter, shares)[0].T.flip(0))
    torch.testing.assert_close(angle, shares[0] * torch.pi / 2)


def test_spherical_is_linear_where_there_is_no_circle() -> None:
    first = torch.tensor([[1.0, 2.0], [0.0, 0.0], [1.0, 0.0], [2.0, 2.0]])
    second = torch.tensor([[2.0, 4.0], [3.0, 1.0], [-1.0, 0.0], [2.0, 2.000001]])
    shares = torch.tensor([[0.25, 0.5]]).repeat(4, 1)
    torch.testing.assert_close(SphericalFeatures()(first, second, shares), LinearFeatures()(first, second, shares))


@pytest.mark.parametrize("warper", WARPERS)
def test_moving_things_are_put_where_they_are(warper: TokenWarper) -> None:
    scenes = [pan(n) for n in range(6)] + [things(n) for n in range(6)]
    found, linear = errors(warper, scenes), errors(LinearFeatures(), scenes)
    assert float(found.mean()) < 0.75 * float(linear.mean())
    assert float(found.mean()) < 0.9 * float(one_shift(scenes).mean())
    assert float((found - linear).max()) < 0.05


def test_straight_lines_are_better_at_the_edges_of_things() -> None:
    scenes = [things(n) for n in range(6)]
    assert float(errors(WARPERS[0], scenes).mean()) < 0.95 * float(errors(WARPERS[1], scenes).mean())


@pytest.mark.parametrize("warper", WARPERS)
@pytest.mark.parametrize("scene", [fade, lambda n: fade(n, channels=2), cut, tremble])
def test_where_nothing_moves_it_is_never_much_worse_than_linear(warper: TokenWarper, scene: Callable) -> None:
    scenes = [scene(n) for n in range(6)]
    assert float((errors(warper, scenes) - errors(LinearFeatures(), scenes)).max()) < 0.05


def test_a_third_of_the_picture_may_be_covered() -> None:
    """A pan of whole tokens behind a patch that stands still."""
    seen, patch = surface(2, 1.0), surface(3, 1.0)(0, 0)
    cover = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    cover[2:9, 3:9] = True  # 42 of 144
    scene = [lambda share: torch.where(cover, patch, seen(2 * share, 0))]
    far = F.max_pool2d(cover[None].float(), 5, 1, 2)[0] == 0  # at the cover's edges nobody knows
    far[:, [0, -1]] = False  # and little where the picture comes in and leaves
    made = TokenWarper()(scene[0](0), scene[0](1), torch.tensor([[0.5]]))[0, 0]
    linear = LinearFeatures()(scene[0](0), scene[0](1), torch.tensor([[0.5]]))[0, 0]
    truth = scene[0](0.5)[0]
    assert float((made - truth)[:, far].square().mean()) < 0.1 * float((linear - truth)[:, far].square().mean())
    inside = -F.max_pool2d(-cover[None].float(), 5, 1, 2)[0] == 1
    assert float((made - truth)[:, inside].square().mean()) < 0.02


@pytest.mark.parametrize("interpolator", ALL)
def test_flat_features_stay_flat(interpolator: FeatureInterpolator) -> None:
    flat = torch.full((1, 4, 5, 6), 3.0)
    torch.testing.assert_close(interpolator(flat, flat, torch.tensor([[0.3]]))[:, 0], flat)
    torch.testing.assert_close(interpolator(0 * flat, 0 * flat, torch.tensor([[0.3]]))[:, 0], 0 * flat)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_finds_the_same_motion(dtype: torch.dtype) -> None:
    scene = pan(1)
    first, last, shares = scene(0), scene(1), torch.tensor([[0.3, 0.6]])
    exact = TokenWarper()(first, last, shares)
    half = TokenWarper()(first.to(dtype), last.to(dtype), shares).float()
    assert float((half - exact).abs().mean()) < 0.02
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(TokenWarper()(first, last, shares), exact)


def test_a_pair_is_matched_once_for_all_times(monkeypatch: pytest.MonkeyPatch) -> None:
    from legato.motion.transport import Matches, Transport

    asked = []
    match = Transport.__call__

    def counted(self: Transport, first: torch.Tensor, second: torch.Tensor) -> Matches:
        asked.append(len(first))
        return match(self, first, second)

    monkeypatch.setattr(Transport, "__call__", counted)
    clip, kept = numbers(2, 13, 4, 5, 5), torch.zeros(2, 13, dtype=torch.bool)
    kept[:, ::4] = True
    filled(clip, torch.arange(13, dtype=torch.float64).repeat(2, 1), kept, TokenWarper())
    assert asked == [6], "three pairs of each of two clips, in one call"


def test_gradients_reach_both_keyframes() -> None:
    scene = pan(3)
    for interpolator in ALL:
        first, last = scene(0).clone().requires_grad_(), scene(1).clone().requires_grad_()
        interpolator(first, last, torch.tensor([[0.5]])).square().mean().backward()
        assert all(x.grad is not None and float(x.grad.abs().sum()) > 0 for x in (first, last))


# --- whole clips

SECONDS = torch.tensor([[0.0, 0.1, 0.4, 0.45, 1.0], [0.0, 0.5, 0.6, 2.0, 2.1]], dtype=torch.float64)
KEPT = torch.tensor([[True, False, False, True, True], [False, True, False, True, False]])
fillers = pytest.mark.parametrize("fill", [lambda *a: filled(*a, LinearFeatures()), filled_linearly], ids=str)


@fillers
def test_what_moves_evenly_is_filled_in_exactly_at_uneven_times(fill: Callable) -> None:
    clip = (2 + 3 * SECONDS)[..., None].float()
    hidden = torch.where(KEPT[..., None], clip, torch.nan)
    made = fill(hidden, SECONDS, KEPT)
    torch.testing.assert_close(made[0], clip[0])
    torch.testing.assert_close(made[1, 1:4], clip[1, 1:4])
    assert made[1, 0] == clip[1, 1]
    assert made[1, 4] == clip[1, 3]


@pytest.mark.parametrize("shape", [(), (3,), (4, 5, 6)])
def test_filling_by_pairs_agrees_with_its_fast_twin(shape: tuple[int, ...]) -> None:
    clip = numbers(5, 19, *shape)
    seconds = torch.rand(5, 19, generator=torch.Generator().manual_seed(1), dtype=torch.float64).cumsum(1)
    kept = torch.rand(5, 19, generator=torch.Generator().manual_seed(2)) < 0.3
    kept[3], kept[4] = torch.arange(19) == 7, True
    torch.testing.assert_close(filled(clip, seconds, kept, LinearFeatures()), filled_linearly(clip, seconds, kept))


@pytest.mark.parametrize("interpolator", ALL)
def test_kept_frames_stay_and_missing_ones_are_not_looked_at(interpolator: FeatureInterpolator) -> None:
    clip = numbers(2, 5, 3, 4, 6).half()
    hidden = torch.where(KEPT[..., None, None, None], clip, torch.nan)
    made = filled(hidden, SECONDS, KEPT, interpolator)
    assert torch.equal(made[KEPT], clip[KEPT])
    assert bool(made.isfinite().all())
    assert made.dtype == torch.float16


def test_each_pair_gets_the_shares_of_its_own_times() -> None:
    scene = pan(5)
    clip = torch.stack([scene(0)[0], torch.zeros(8, SIDE, SIDE), torch.zeros(8, SIDE, SIDE), scene(1)[0]])[None]
    seconds = torch.tensor([[10.0, 10.1, 10.7, 11.0]], dtype=torch.float64)
    made = filled(clip, seconds, torch.tensor([[True, False, False, True]]), TokenWarper())
    alone = TokenWarper()(scene(0), scene(1), torch.tensor([[0.1, 0.7]]))
    torch.testing.assert_close(made[:, 1:3], alone)


@fillers
def test_what_cannot_be_filled_in_is_said(fill: Callable) -> None:
    clip = torch.zeros(2, 5, 3)
    with pytest.raises(BadArgument, match="clip 1 of the batch keeps no frame"):
        fill(clip, SECONDS, torch.tensor([[True] * 5, [False] * 5]))
    with pytest.raises(BadArgument, match="seconds do not rise"):
        fill(clip, SECONDS.flip(1), KEPT)


@pytest.mark.parametrize("interpolator", ALL)
def test_bad_arguments_are_said(interpolator: FeatureInterpolator) -> None:
    grid, shares = torch.zeros(2, 3, 4, 4), torch.full((2, 1), 0.5)
    with pytest.raises(BadArgument, match="expected one size"):
        interpolator(grid, torch.zeros(2, 3, 4, 5), shares)
    with pytest.raises(BadArgument, match=r"share 1\.5 does not lie between 0"):
        interpolator(grid, grid, shares + 1)
    with pytest.raises(BadArgument, match="share nan"):
        interpolator(grid, grid, shares * torch.nan)
    with pytest.raises(BadArgument, match="shares for 1 pairs and 2 pairs"):
        interpolator(grid, grid, shares[:1])


def test_the_warper_wants_a_grid() -> None:
    with pytest.raises(BadArgument, match=r"\(2, 3, 4\); expected \(pairs, channels, rows, columns\)"):
        TokenWarper()(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), torch.full((2, 1), 0.5))
