"""Smoothing along motion takes flicker out of made frames, and nothing else."""

import itertools
import weakref
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from legato.errors import BadArgument
from legato.motion.smooth import smoothed
from legato.video import Frame, Frames
from tests import faults

RATE = 25
CLEAN = torch.stack([frame.pixels for frame in faults.moving_scene(rate=RATE, seconds=0.6, speed=0.5)])
GIVEN = torch.zeros(len(CLEAN), dtype=torch.bool)
GIVEN[[0, 6, -1]] = True


def steady(frames: Frames, given: torch.Tensor, **options: Any) -> torch.Tensor:
    return torch.stack([frame.pixels for frame in smoothed(frames, given.tolist(), **options)])


def timed(pixels: torch.Tensor, rate: int = RATE) -> Frames:
    return Frames(pixels, torch.arange(len(pixels)), Fraction(1, rate))


def flickering(strength: float = 6.0) -> torch.Tensor:
    """Each frame but the given ones in patches lighter or darker, as from a decoder that sees one frame at a time."""
    numbers = torch.Generator().manual_seed(0)
    coarse = strength * torch.randn(len(CLEAN), 1, 6, 8, generator=numbers)
    change = torch.nn.functional.interpolate(coarse, CLEAN.shape[-2:], mode="bilinear")
    change[GIVEN] = 0
    return (CLEAN + change).round().clamp(0, 255).to(torch.uint8)


def error(made: torch.Tensor) -> float:
    return float((made[~GIVEN].float() - CLEAN[~GIVEN].float()).square().mean())


def detail(pixels: torch.Tensor) -> float:
    return float(pixels[~GIVEN].float().diff(dim=-1).square().mean())


@pytest.mark.parametrize("threads", [1, 2])
def test_given_frames_stay_bit_for_bit_and_the_others_come_nearer_to_the_truth(threads: int) -> None:
    rough = flickering()
    made = list(smoothed(timed(rough), GIVEN.tolist(), reach_seconds=1 / RATE, threads=threads))
    assert [frame.pts for frame in made] == list(range(len(CLEAN)))
    pixels = torch.stack([frame.pixels for frame in made])
    assert torch.equal(pixels[GIVEN], rough[GIVEN])
    assert error(pixels) < 0.6 * error(rough)


def test_no_more_frames_are_held_than_are_looked_at() -> None:
    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    most = 0

    def endless() -> Iterator[Frame]:
        for n in itertools.count():
            frame = Frame(torch.full((3, 40, 40), n % 100, dtype=torch.uint8), n, Fraction(1, RATE))
            alive.add(frame.pixels)
            yield frame

    for _ in itertools.islice(smoothed(endless(), itertools.repeat(False), reach_seconds=1 / RATE), 40):
        most = max(most, len(alive))
    assert 5 <= most <= 8  # two on each side and what is being passed on


def test_what_moves_stays_sharp_and_where_it_is() -> None:
    made = steady(timed(CLEAN), torch.zeros(len(CLEAN), dtype=torch.bool), reach_seconds=1 / RATE)
    blurred = (CLEAN[:-2].float() + 2 * CLEAN[1:-1].float() + CLEAN[2:].float()) / 4  # the same without flow
    still = float((blurred - CLEAN[1:-1].float()).square().mean())
    assert error(made) < 0.1 * still
    assert detail(made) > 0.97 * detail(CLEAN)


def test_the_reach_is_in_seconds() -> None:
    rough = flickering()
    free = torch.zeros(len(CLEAN), dtype=torch.bool)
    slow, fast = (steady(timed(rough, rate), free, reach_seconds=0.02) for rate in (RATE, 2 * RATE))
    assert error(fast) < error(slow) < error(rough)
    assert torch.equal(steady(timed(rough, RATE), free, reach_seconds=0.019), rough)  # nobody is near enough


def test_nothing_is_mixed_across_a_cut() -> None:
    dark, light = (np.full((3, 40, 60), level, dtype=np.uint8) for level in (20, 200))
    pixels = torch.from_numpy(np.stack([dark, dark, light, light]))
    assert torch.equal(steady(timed(pixels), torch.zeros(4, dtype=torch.bool), reach_seconds=0.1), pixels)


def test_what_cannot_be_is_told() -> None:
    for reach in (0.0, 0.6, float("nan")):
        with pytest.raises(BadArgument, match="smoothing reaches over"):
            smoothed(timed(CLEAN), GIVEN.tolist(), reach_seconds=reach)
