"""Optical flow against the exact motion of synthetic worlds: right way round, in pixels of the input, stateless."""

from dataclasses import replace

import cv2
import pytest
import torch

from legato.data.scenes import Bar, Linear, Scene, Still, Texture, random_scene
from legato.errors import BadArgument, MissingExtra
from legato.motion.flow import DisFlow, FarnebackFlow, FlowEstimator, LucasKanadeFlow, NvidiaFlow, TorchFlow

HAS_NVIDIA = hasattr(cv2, "cuda") and hasattr(cv2.cuda, "NvidiaOpticalFlow_2_0_create")


def network(image1: torch.Tensor, image2: torch.Tensor) -> list[torch.Tensor]:
    """A flow network in torchvision's manner that has learned to call OpenCV."""
    levels = [((image[0] + 1) * 127.5).round().to(torch.uint8) for image in (image1, image2)]
    return [torch.zeros(1, 2, *image1.shape[-2:]), DisFlow("medium", max_side_px=4096)(*levels)[None]]


ESTIMATORS: list[FlowEstimator] = [
    DisFlow("ultrafast"),
    DisFlow(),
    DisFlow("medium"),
    FarnebackFlow(),
    LucasKanadeFlow(),
    TorchFlow(network),
    pytest.param(NvidiaFlow(), marks=pytest.mark.skipif(not HAS_NVIDIA, reason="OpenCV without CUDA")),
]
every_estimator = pytest.mark.parametrize("estimate", ESTIMATORS, ids=repr)


def pan(x_px: float, y_px: float, height: int, width: int) -> torch.Tensor:
    """Two pictures between which everything moves by so many pixels."""
    camera = Linear((0, 0), (-x_px / width, -y_px / height))
    return Scene(background=Texture(seed=3, finest=0.1), camera=camera).render([0, 1], height, width)


def inner(flow: torch.Tensor) -> torch.Tensor:
    return flow[:, 12:-12, 12:-12]


@every_estimator
@pytest.mark.parametrize("shift", [(5.0, -2.5), (-0.5, 4.0)])
def test_flow_is_x_then_y_towards_the_second_picture_in_pixels(estimate, shift):
    flow = estimate(*pan(*shift, 90, 130))
    assert flow.shape == (2, 90, 130)
    assert flow.dtype == torch.float32
    assert inner(flow).flatten(1).median(1).values.tolist() == pytest.approx(shift, abs=0.15)
    assert (inner(flow) - torch.tensor(shift)[:, None, None]).abs().mean() < 0.3


@every_estimator
def test_pixels_are_those_of_the_input_whatever_it_is_computed_on(estimate):
    flow = replace(estimate, max_side_px=100)(*pan(10.0, -6.0, 150, 230))
    assert flow.shape == (2, 150, 230)
    assert inner(flow).flatten(1).median(1).values.tolist() == pytest.approx([10, -6], abs=0.5)


@every_estimator
def test_moving_things_are_followed(estimate):
    scene = random_scene(torch.Generator().manual_seed(5), speed=0.4)
    motion = scene.motion(0.5, 0.54, 180, 240)
    error = (estimate(*scene.render([0.5, 0.54], 180, 240)) - motion.flow).norm(dim=0)
    moving = motion.visible & (motion.layer > 0)
    assert error[motion.visible].mean() < 0.35 * motion.flow.norm(dim=0)[motion.visible].mean()
    assert error[moving].median() < 0.35 * motion.flow.norm(dim=0)[moving].median()


@every_estimator
def test_nothing_moves_between_equal_pictures(estimate):
    picture, _ = pan(0, 0, 60, 80)
    assert estimate(picture, picture).abs().max() < 0.1


@every_estimator
def test_a_call_leaves_no_trace(estimate):
    first, second = pan(3, 2, 72, 96)
    other = pan(-8, 6, 72, 96)
    before = first.clone(), second.clone()
    alone = estimate(first, second)
    estimate(*other)
    assert torch.equal(estimate(first, second), alone)
    assert torch.equal(first, before[0])
    assert torch.equal(second, before[1])
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        assert torch.equal(estimate(first, second), alone)
    finally:
        cv2.setNumThreads(threads)


@every_estimator
def test_memory_layout_makes_no_difference(estimate):
    pair = pan(3, 2, 72, 96)
    as_decoded = [picture.permute(1, 2, 0).contiguous().permute(2, 0, 1) for picture in pair]
    cropped = torch.nn.functional.pad(pair, (8, 8, 8, 8))[..., 8:-8, 8:-8]
    assert torch.equal(estimate(*as_decoded), estimate(*pair))
    assert torch.equal(estimate(*cropped), estimate(*pair))


@every_estimator
def test_pictures_of_unlike_or_tiny_size_are_refused(estimate):
    with pytest.raises(BadArgument, match="expected one size"):
        estimate(pan(0, 0, 40, 60)[0], pan(0, 0, 60, 40)[0])
    with pytest.raises(BadArgument, match="at least 12"):
        estimate(*pan(0, 0, 8, 60))
    assert estimate(*pan(0, 0, 12, 40)).shape == (2, 12, 40)


@every_estimator
def test_small_pictures_will_do(estimate):
    flow = estimate(*pan(2, 1, 30, 44))
    assert flow[:, 6:-6, 6:-6].flatten(1).median(1).values.tolist() == pytest.approx([2, 1], abs=0.25)


def test_points_without_texture_take_their_neighbours_motion():
    wall = Bar(Still((0.6, 0.5)), 0.9, 0.8, Texture(colour=(0.3, 0.5, 0.2), contrast=0))
    scene = Scene((wall,), Texture(seed=3, finest=0.1), camera=Linear((0, 0), (-4 / 160, 2 / 96)))
    flow = LucasKanadeFlow(levels=2)(*scene.render([0, 1], 96, 160))
    assert flow[:, 48, 96].tolist() == pytest.approx([4, -2], abs=0.5)
    blank = torch.full((3, 40, 60), 9, dtype=torch.uint8)
    assert LucasKanadeFlow()(blank, blank).abs().max() == 0


def test_a_network_sees_its_range_and_multiples_of_eight_and_its_padding_is_taken_off():
    seen = []

    def places(image1: torch.Tensor, image2: torch.Tensor) -> torch.Tensor:
        """A flow that says where in the padded picture it was read."""
        seen.append((image1.shape, float(image1.min()), float(image2.max())))
        rows, columns = image1.shape[-2:]
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        return torch.stack([x, y])[None].float()

    black, white = torch.zeros(3, 21, 30, dtype=torch.uint8), torch.full((3, 21, 30), 255, dtype=torch.uint8)
    flow = TorchFlow(places, input_range=(0.0, 255.0))(black, white)
    TorchFlow(places)(black, white)
    assert seen == [((1, 3, 24, 32), 0, 255), ((1, 3, 24, 32), -1, 1)]
    assert flow[:, 0, 0].tolist() == [1, 1]
    assert flow[:, -1, -1].tolist() == [30, 21]


def test_a_module_that_returns_something_else_is_named():
    coarse = TorchFlow(lambda a, b: torch.zeros(1, 2, a.shape[-2] // 8, a.shape[-1] // 8))
    with pytest.raises(BadArgument, match=r"returned \(1, 2, 5, 8\)"):
        coarse(*pan(0, 0, 40, 60))


@pytest.mark.skipif(HAS_NVIDIA, reason="OpenCV with CUDA")
def test_without_the_hardware_nvidia_flow_says_what_to_do():
    with pytest.raises(MissingExtra, match="use DisFlow"):
        NvidiaFlow()(*pan(0, 0, 40, 60))
