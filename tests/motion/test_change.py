"""Change measures: exact against a slow twin, fair to dark and noisy pictures."""

import numpy as np
import pytest
import torch
from torch import Tensor

from legato.errors import BadArgument
from legato.motion.change import (
    ChangedShare,
    MeanAbsolute,
    NoiseFloor,
    Relative,
    RootMeanSquare,
    dilate,
    hierarchical_priority,
)

PATCH_PX = 8


def picture(seed: int, height: int = 32, width: int = 48) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8).permute(2, 0, 1)


def patchwise(a: Tensor, b: Tensor, function: object) -> Tensor:
    """The slow twin: a loop over patches in float64."""
    rows, columns = a.shape[1] // PATCH_PX, a.shape[2] // PATCH_PX
    out = torch.zeros(rows, columns)
    for r in range(rows):
        for c in range(columns):
            box = (slice(None), slice(r * PATCH_PX, (r + 1) * PATCH_PX), slice(c * PATCH_PX, (c + 1) * PATCH_PX))
            out[r, c] = function(a[box].double() - b[box].double())
    return out


@pytest.mark.parametrize(
    ("measure", "twin"),
    [
        (MeanAbsolute(), lambda d: d.abs().mean() / 255),
        (RootMeanSquare(), lambda d: d.square().mean().sqrt() / 255),
        (ChangedShare(200.0), lambda d: (d.square().sum(0).sqrt() > 200).double().mean()),
    ],
)
def test_measures_agree_with_a_loop_over_patches(measure: object, twin: object) -> None:
    a, b = picture(0), picture(1)
    torch.testing.assert_close(measure(a, b, PATCH_PX), patchwise(a, b, twin), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("measure", [MeanAbsolute(), RootMeanSquare(), ChangedShare(), Relative()])
def test_equal_pictures_have_no_change_and_others_do(measure: object) -> None:
    a = picture(0)
    assert torch.equal(measure(a, a.clone(), PATCH_PX), torch.zeros(4, 6))
    assert bool((measure(a, picture(1), PATCH_PX) > 0).all())


def textured(contrast: float) -> np.ndarray:
    rows, columns = np.mgrid[:32, :48]
    return 20 + contrast * (np.sin(rows) + np.cos(columns * 1.3))[..., None].repeat(3, -1)


def as_picture(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image.round().clip(0, 255).astype(np.uint8)).permute(2, 0, 1)


def test_a_dark_scene_counts_as_much_as_a_bright_one_under_relative_change() -> None:
    """The same scene at a sixth of the light: absolute change falls sixfold, relative change far less."""
    moved = np.roll(textured(60) + 80, 2, axis=1)
    bright, bright_moved = as_picture(textured(60) + 80), as_picture(moved)
    dark, dark_moved = as_picture((textured(60) + 80) / 6), as_picture(moved / 6)

    def ratio(measure: object) -> float:
        bright_change = measure(bright_moved, bright, PATCH_PX).mean()
        return float(bright_change / measure(dark_moved, dark, PATCH_PX).mean())

    assert ratio(MeanAbsolute()) > 5
    assert ratio(Relative()) < 2.5


def test_noise_is_learned_and_taken_off_but_a_moving_thing_stays() -> None:
    random = np.random.default_rng(0)
    scene = np.full((64, 64, 3), 120.0)

    def noisy(image: np.ndarray) -> Tensor:
        return as_picture(image + random.normal(0, 4, image.shape))

    noise, previous = 0.0, noisy(scene)
    for _ in range(60):
        now = noisy(scene)
        noise, motion = NoiseFloor().step(now, previous, PATCH_PX, noise, 1 / 30)
        previous = now
    assert noise * 255 == pytest.approx(4 * 2**0.5, rel=0.15)
    assert motion * 255 == pytest.approx(4 * 2 / np.pi**0.5, rel=0.1)
    changed = scene.copy()
    changed[:8, :8] += 60
    change = Relative()(noisy(changed), previous, PATCH_PX, noise)
    assert float(change[4:, 4:].max()) < 0.1 < 0.5 < float(change[0, 0])
    assert float(Relative()(noisy(changed), previous, PATCH_PX)[4:, 4:].min()) > 0.1


def test_noise_follows_seconds_not_frames() -> None:
    a, b = as_picture(np.full((32, 32, 3), 100.0)), as_picture(np.full((32, 32, 3), 104.0))
    slow = NoiseFloor().step(a, b, PATCH_PX, 0.0, 1 / 15)[0]
    fast = 0.0
    for _ in range(4):
        fast = NoiseFloor().step(a, b, PATCH_PX, fast, 1 / 60)[0]
    assert fast == pytest.approx(slow, rel=1e-6)


def test_a_hierarchical_priority_mixes_three_scales_and_is_zero_where_nothing_changed() -> None:
    change = torch.zeros(8, 8)
    assert torch.equal(hierarchical_priority(change), change)
    change[0, 0] = 1.0
    priority = hierarchical_priority(change, (4.0, 2.0, 1.0))
    assert float(priority[0, 0]) == pytest.approx((4 / 16 + 2 / 4 + 1) / 7)
    assert float(priority[1, 1]) == pytest.approx((4 / 16 + 2 / 4) / 7)
    assert float(priority[3, 3]) == pytest.approx((4 / 16) / 7)
    assert float(priority[4, 4]) == 0
    assert hierarchical_priority(torch.rand(5, 7)).shape == (5, 7)
    with pytest.raises(BadArgument, match="weights"):
        hierarchical_priority(change, (0.0, 0.0, 0.0))


def test_dilation_grows_in_all_directions() -> None:
    selected = torch.zeros(5, 5, dtype=torch.bool)
    selected[2, 2] = True
    assert int(dilate(selected, 1).sum()) == 9
    assert int(dilate(selected, 0).sum()) == 1
    selected[2, 2] = False
    assert int(dilate(selected, 2).sum()) == 0


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadArgument, match="one size"):
        MeanAbsolute()(picture(0), picture(1, width=40), PATCH_PX)
    with pytest.raises(BadArgument, match="multiples of the patch"):
        MeanAbsolute()(picture(0), picture(1), 7)
