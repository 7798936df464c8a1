"""Frames are brought to the encoder's size without losing what is in them."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from legato.reuse.track import fitted
from legato.video import Frame


def frame(image: np.ndarray) -> Frame:
    return Frame(torch.from_numpy(image).permute(2, 0, 1), 0, Fraction(1, 30))


@pytest.mark.parametrize("size", [(720, 1280), (784, 784), (1081, 1921), (300, 400), (200, 1600), (392, 392)])
def test_a_ramp_stays_a_ramp_at_any_size(size: tuple[int, int]) -> None:
    height, width = size
    row = np.linspace(0, 255, width)
    image = np.repeat(np.repeat(row[None, :, None], height, 0), 3, 2).round().astype(np.uint8)
    made = fitted(frame(image), (392, 392))
    assert made.shape == (3, 392, 392)
    expected = torch.linspace(0, 255, width)[torch.linspace(0, width - 1, 392).round().long()]
    assert float((made.float() - expected).abs().max()) < 4


def test_fine_stripes_become_grey_and_no_coarse_ones() -> None:
    image = np.zeros((784, 1568, 3), np.uint8)
    image[:, ::2] = 200
    made = fitted(frame(image), (392, 392)).float()
    assert float((made - 100).abs().max()) <= 1
    image = np.zeros((720, 1280, 3), np.uint8)
    image[::2] = 200
    rows = fitted(frame(image), (392, 392)).float().mean((0, 2))
    assert float((rows - 100).abs().max()) < 20  # bilinear sampling at this ratio makes waves of 94
