"""Pictures between tensors and OpenCV, and their small copies."""

import numpy as np
import pytest
import torch

from legato.video.pixels import pixels_of_rows, rows_of_pixels, shrunk


def image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("contiguous", [True, False])
def test_there_and_back(contiguous: bool) -> None:
    rows = image(5, 7)
    picture = pixels_of_rows(rows)
    picture = picture.contiguous() if contiguous else picture
    assert picture.shape == (3, 5, 7)
    assert picture[2, 4, 6] == rows[4, 6, 2]
    assert rows_of_pixels(picture).flags.c_contiguous
    np.testing.assert_array_equal(rows_of_pixels(picture), rows)
    assert torch.equal(pixels_of_rows(rows_of_pixels(picture)), picture)


@pytest.mark.parametrize(
    ("size_px", "side_px", "expected"),
    [((64, 96), 48, (32, 48)), ((96, 64), 48, (48, 32)), ((200, 3), 20, (20, 1)), ((30, 40), 40, (30, 40)),
     ((30, 40), 100, (30, 40))],
)  # fmt: skip
def test_the_longer_side_is_bounded_and_nothing_is_enlarged(
    size_px: tuple[int, int], side_px: int, expected: tuple[int, int]
) -> None:
    assert shrunk(image(*size_px), side_px).shape == (*expected, 3)


def test_a_small_picture_has_the_means_of_the_large_one() -> None:
    large = image(12, 18)
    means = large.reshape(4, 3, 6, 3, 3).mean((1, 3))
    assert np.abs(shrunk(large, 6) - means).max() <= 0.51


def test_a_small_copy_shares_no_memory() -> None:
    large = image(12, 18)
    for side_px in (18, 100, 9):
        assert not np.shares_memory(shrunk(large, side_px), large)
