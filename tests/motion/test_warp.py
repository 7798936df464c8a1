"""Warping along flow: exact where it can be, the same for pictures and tokens, and honest about what is hidden."""

import math

import numpy as np
import pytest
import torch

from legato.data.scenes import Bar, Linear, Scene, Texture, random_scene
from legato.errors import BadArgument
from legato.motion.warp import (
    consistency_error,
    occluded,
    places_of,
    resize_flow,
    sampled,
    samples_inside,
    splatted,
    warp,
    warp_tokens,
)


def numbers(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_opencv_samples_what_the_exact_warp_does() -> None:
    image = np.random.default_rng(0).uniform(0, 255, (12, 17, 3)).astype(np.float32)
    flow = np.random.default_rng(1).normal(0, 4, (12, 17, 2)).astype(np.float32)
    before = image.copy(), flow.copy()
    exact = warp(*(torch.from_numpy(a).permute(2, 0, 1)[None] for a in (image, flow)))[0].permute(1, 2, 0).numpy()
    for _ in range(2):  # the places are kept from one call to the next
        assert np.abs(sampled(image, flow) - exact).max() < 255 / 16, "OpenCV counts in thirty-seconds of a pixel"
    np.testing.assert_array_equal(sampled(image, np.zeros_like(flow)), image)
    np.testing.assert_array_equal(sampled(image, np.zeros_like(flow) + 1)[:-1, :-1], image[1:, 1:])
    assert all(np.array_equal(a, b) for a, b in zip(before, (image, flow), strict=True))
    with pytest.raises(ValueError, match="read-only"):
        places_of(12, 17)[0, 0] = 7


def constant(x: float, y: float, height: int, width: int) -> torch.Tensor:
    return torch.tensor([x, y], dtype=torch.float32)[None, :, None, None].expand(1, 2, height, width).contiguous()


def slow_warp(images: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Bilinear sampling with the edge repeated, pixel by pixel."""
    batch, _, height, width = images.shape
    out = np.zeros_like(images)
    for n in range(batch):
        for row in range(height):
            for column in range(width):
                x = min(max(column + flow[n, 0, row, column], 0), width - 1)
                y = min(max(row + flow[n, 1, row, column], 0), height - 1)
                left, top = math.floor(x), math.floor(y)
                for j, weight_y in ((top, 1 - (y - top)), (min(top + 1, height - 1), y - top)):
                    for i, weight_x in ((left, 1 - (x - left)), (min(left + 1, width - 1), x - left)):
                        out[n, :, row, column] += weight_x * weight_y * images[n, :, j, i]
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_zero_flow_gives_back_the_same_bits(dtype):
    images = numbers(2, 3, 7, 5, scale=1e3).to(dtype)
    assert torch.equal(warp(images, torch.zeros(2, 2, 7, 5)), images)


@pytest.mark.parametrize(("x", "y"), [(3, 0), (0, -2), (-1, 2), (4, 4)])
def test_whole_displacements_copy_pixels_exactly(x, y):
    image = numbers(1, 2, 90, 160)
    warped = warp(image, constant(x, y, 90, 160))
    inside = samples_inside(constant(x, y, 90, 160))[0]
    assert torch.equal(warped[..., inside], image.roll((-y, -x), (-2, -1))[..., inside])
    assert inside.sum() == (90 - abs(y)) * (160 - abs(x))


def test_warping_agrees_with_its_slow_twin():
    images, flow = numbers(2, 3, 9, 11), numbers(2, 2, 9, 11, seed=1, scale=4)
    expected = slow_warp(images.numpy(), flow.numpy())
    np.testing.assert_allclose(warp(images, flow), expected, atol=1e-5)
    channels_last = np.moveaxis(expected, 1, -1)
    tokens = images.flatten(2).transpose(1, 2)
    np.testing.assert_allclose(warp_tokens(tokens, flow), channels_last.reshape(2, 99, 3), atol=1e-5)


def test_beyond_the_frame_counts_its_edge():
    row = torch.tensor([1.0, 2.0, 4.0])[None, None, None]
    assert warp(row, constant(1.5, 0, 1, 3)).flatten().tolist() == [3, 4, 4]
    assert warp(row, constant(-9, 5, 1, 3)).flatten().tolist() == [1, 1, 1]
    assert samples_inside(constant(0.5, 0, 1, 3)).flatten().tolist() == [True, True, False]


def test_half_precision_flow_of_a_wide_picture_still_counts_pixels():
    image = torch.arange(4000.0)[None, None, None]
    warped = warp(image, constant(1, 0, 1, 4000).half())
    assert torch.equal(warped[0, 0, 0, :-1], image[0, 0, 0, 1:])


def test_gradients_reach_the_image_and_the_flow():
    image = numbers(1, 2, 5, 6).double().requires_grad_()
    flow = numbers(1, 2, 5, 6, seed=3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda image, flow: warp(image, flow)[..., 1:-1, 1:-1], (image, flow))


def test_neither_argument_is_changed():
    image, flow = numbers(1, 3, 6, 6), numbers(1, 2, 6, 6, seed=1)
    image_before, flow_before = image.clone(), flow.clone()
    warp(image, flow).zero_()
    occluded(flow, -flow)
    resize_flow(flow, 6, 6).zero_()
    assert torch.equal(image, image_before)
    assert torch.equal(flow, flow_before)


@pytest.mark.parametrize("size", [(12, 20), (24, 40), (3, 5), (17, 31)])
def test_a_resized_flow_means_the_same_motion(size):
    rows, columns = size
    resized = resize_flow(constant(4, -6, 12, 20), rows, columns)
    torch.testing.assert_close(resized, constant(4 * columns / 20, -6 * rows / 12, rows, columns))


def test_a_coarser_flow_is_the_mean_over_each_cell():
    flow = numbers(1, 2, 6, 8)
    expected = torch.stack(
        [flow[0, :, 2 * i : 2 * i + 2, 4 * j : 4 * j + 4].mean((1, 2)) for i in range(3) for j in range(2)], -1
    ).reshape(2, 3, 2)
    expected = expected * torch.tensor([2 / 8, 3 / 6])[:, None, None]
    torch.testing.assert_close(resize_flow(flow, 3, 2)[0], expected)


def test_resizing_keeps_a_field_where_it_is():
    """A linear field sampled at cell centres stays linear: positions are those of centres, not of corners."""
    field = lambda n: ((torch.arange(n) + 0.5) / n).expand(1, 2, n, n).contiguous()  # noqa: E731
    for coarse, fine in ((4, 16), (16, 4)):
        resized = resize_flow(field(coarse), fine, fine) * (coarse / fine)
        torch.testing.assert_close(resized[..., 2:-2], field(fine)[..., 2:-2])


def test_tokens_follow_pixels_that_move_by_whole_patches():
    tokens = numbers(1, 6 * 8, 16)
    flow = resize_flow(constant(28, -14, 84, 112), 6, 8)  # patches of 14 px: two to the right, one up
    warped = warp_tokens(tokens, flow).reshape(6, 8, 16)
    torch.testing.assert_close(warped[1:, :6], tokens.reshape(6, 8, 16)[:-1, 2:])


def test_warping_the_second_picture_along_exact_flow_gives_the_first():
    scene = random_scene(torch.Generator().manual_seed(4), speed=0.5)
    first, second = scene.render([0.3, 0.4], 120, 160).float()
    motion = scene.motion(0.3, 0.4, 120, 160)
    error = (warp(second[None], motion.flow[None])[0] - first).abs().mean(0)
    still = (second - first).abs().mean(0)
    assert error[motion.visible].median() < 1
    assert error[motion.visible].mean() < 0.1 * still[motion.visible].mean()


def test_what_is_covered_or_leaves_is_occluded_and_nothing_else():
    bar = Bar(Linear((0.25, 0.5), (0.25, 0)), 0.25, 0.5, Texture(seed=3))
    scene = Scene((bar,), Texture(seed=8), camera=Linear((0, 0), (0, 0.1)))
    forward, backward = scene.motion(0, 1, 40, 80), scene.motion(1, 0, 40, 80)
    found = occluded(forward.flow[None], backward.flow[None])[0]
    hidden = ~forward.visible
    assert hidden.sum() == 4 * 80 + 10 * 20  # what the pan loses, and what the bar covers
    assert torch.equal(found, hidden)
    error = consistency_error(forward.flow[None], backward.flow[None])[0]
    assert error[forward.visible].max() < 1e-3


def test_occlusion_bounds_the_error_as_it_says():
    forward = constant(10, 0, 4, 40)
    for error_px, hidden in ((0.9, False), (1.4, True)):
        backward = constant(-10 + error_px, 0, 4, 40)
        assert bool(occluded(forward, backward)[0, 2, 20]) is hidden
        assert bool(occluded(forward, backward, max_error_px=error_px + 0.01)[0, 2, 20]) is False
    assert occluded(forward, constant(-10, 0, 4, 40))[0, :, 30:].all()  # out of the frame


def test_flow_of_another_size_is_refused():
    with pytest.raises(BadArgument, match=r"expected \(1, 2, 4, 5\)"):
        warp(numbers(1, 3, 4, 5), torch.zeros(1, 2, 5, 4))
    with pytest.raises(BadArgument, match="class and register tokens"):
        warp_tokens(numbers(1, 21, 8), torch.zeros(1, 2, 4, 5))
    with pytest.raises(BadArgument, match="expected"):
        consistency_error(torch.zeros(1, 2, 4, 5), torch.zeros(1, 2, 5, 5))
    with pytest.raises(BadArgument, match="at least 1"):
        resize_flow(torch.zeros(1, 2, 4, 5), 0, 3)


def test_throwing_is_the_transpose_of_sampling_and_loses_what_leaves():
    images, values = numbers(1, 1, 6, 7).double(), numbers(1, 1, 6, 7, seed=1).double()
    flow = numbers(1, 2, 6, 7, seed=2, scale=0.4).double()
    flow[..., [0, -1], :] = flow[..., [0, -1]] = 0  # else samples beyond the frame count its edge
    flow = flow.clamp(-1, 1)
    assert float((warp(images, flow) * values).sum()) == pytest.approx(float((images * splatted(values, flow)).sum()))
    assert splatted(values, constant(7, 0, 6, 7)).abs().max() == 0
    assert torch.equal(splatted(values, constant(2, -1, 6, 7))[..., :-1, 2:], values[..., 1:, :-2])
