"""A network that corrects optical flow between frames of real footage."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from legato.errors import BadArgument
from legato.motion.footage_refiner import FootageRefiner, RefinedInterpolator, load_footage_refiner
from legato.motion.interpolate import FlowInterpolator, LinearInterpolator
from legato.samples import BIG_BUCK_BUNNY
from legato.video import open_video
from tests import faults


def wild() -> FootageRefiner:
    """One that says anything."""
    torch.manual_seed(0)
    refiner = FootageRefiner()
    torch.nn.init.normal_(refiner.said.weight, std=1.0)
    return refiner


@pytest.mark.parametrize("size_px", [(90, 120), (47, 600)])  # as it is, and on a coarser grid
def test_untrained_it_changes_nothing(size_px: tuple[int, int]) -> None:
    first, second = (f.pixels for f in faults.moving_scene(seconds=1, height=size_px[0], width=size_px[1])[:2])
    plain, refined = (
        way(first, second, [0.3, 0.7]) for way in (FlowInterpolator(), RefinedInterpolator(FootageRefiner()))
    )
    assert int((plain.int() - refined.int()).abs().max()) <= 1  # weights are rounded once more
    assert not torch.equal(refined[0], first)


@pytest.mark.parametrize("refiner", [wild(), load_footage_refiner()], ids=["wild", "bundled"])
def test_given_pictures_stay_and_equal_ones_stay_equal(refiner: FootageRefiner) -> None:
    first, second = (frame.pixels for frame in faults.moving_scene(seconds=1)[:2])
    made = RefinedInterpolator(refiner)(first, second, [0.0, 0.5, 1.0])
    assert torch.equal(made[0], first)
    assert torch.equal(made[2], second)
    assert torch.equal(RefinedInterpolator(refiner)(first, first, [0.4])[0], first)


def test_whatever_it_says_is_between_the_pictures() -> None:
    numbers = np.random.default_rng(0)
    dark, light = (torch.from_numpy(numbers.integers(*r, (3, 60, 80), dtype=np.uint8)) for r in ((40, 42), (90, 92)))
    made = RefinedInterpolator(wild())(dark, light, [0.2, 0.5])
    assert 38 <= int(made.min()) < int(made.max()) <= 94  # cubic sampling swings over by a level or so


def test_the_bundled_one_is_no_worse_than_flow_on_a_clip_that_it_never_saw() -> None:
    with open_video(BIG_BUCK_BUNNY, size_px=(90, 160)) as video:
        pictures = [frame.pixels for frame in islice(video, 41)]
    ways = {
        "linear": LinearInterpolator(),
        "flow": FlowInterpolator(),
        "refined": RefinedInterpolator(load_footage_refiner()),
    }
    error = {
        name: [
            float((made.float() - true.float()).square().mean().log10())
            for begin in (0, 20, 36)
            for made, true in zip(
                way(pictures[begin], pictures[begin + 4], [0.25, 0.5, 0.75]),
                pictures[begin + 1 : begin + 4],
                strict=True,
            )
        ]
        for name, way in ways.items()
    }
    nearer = {name: 10 * float(np.mean(error[name]) - np.mean(error["refined"])) for name in ("linear", "flow")}
    assert nearer["linear"] > 1, nearer
    assert nearer["flow"] > -0.05, nearer


def test_a_folder_without_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="does not hold a FootageRefiner"):
        load_footage_refiner(tmp_path)
