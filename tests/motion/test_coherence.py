"""What two pictures have in common."""

import numpy as np
import pytest
import torch

from legato.data.scenes import Linear, Scene, Texture
from legato.errors import BadArgument
from legato.motion.coherence import coherence, correlation, unchanged_share


def noise(seed: int, height: int = 36, width: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def flat(value: int) -> torch.Tensor:
    return torch.full((3, 36, 64), value, dtype=torch.uint8)


@pytest.mark.parametrize("seed", range(3))
def test_correlation_is_pearsons_in_float64(seed):
    a, b = noise(seed), (noise(seed).float() * 0.4 + noise(seed + 10).float() * 0.6).to(torch.uint8)
    expected = np.corrcoef(a.numpy().ravel().astype(np.float64), b.numpy().ravel().astype(np.float64))[0, 1]
    assert correlation(a, b) == pytest.approx(expected, abs=1e-13)


def test_a_faint_pattern_on_a_bright_large_picture_keeps_its_correlation():
    # 250 +- 1 over a million values: single precision sums lose this
    bright = torch.full((3, 720, 1280), 250, dtype=torch.uint8)
    a, b = bright.clone(), bright.clone()
    a[:, ::2], b[:, 1::2] = 251, 251
    assert correlation(a, a) == 1.0
    assert correlation(a, b) == -1.0


def test_correlation_ignores_brightness_and_contrast_and_turns_with_the_negative():
    a = noise(1) // 2
    assert correlation(a, a + 100) == pytest.approx(1.0)
    assert correlation(a, 2 * a) == pytest.approx(1.0)
    assert correlation(a, 255 - a) == pytest.approx(-1.0)


def test_pictures_of_one_value_have_a_defined_correlation():
    assert correlation(flat(0), flat(0)) == 1.0
    assert correlation(flat(0), flat(200)) == 1.0
    assert correlation(flat(0), noise(0)) == 0.0
    assert correlation(noise(0), flat(255)) == 0.0


def test_unchanged_share_counts_pixels_within_the_distance():
    a, b = flat(100), flat(100)
    b[:, :9] += 10  # a quarter of the rows, by 10 in each channel: 17.3 away
    b[0, 9:18] += 10  # a quarter, in red alone: 10 away
    assert unchanged_share(a, b) == 0.75
    assert unchanged_share(a, b, distance=0.0) == 0.5
    assert unchanged_share(a, b, distance=18.0) == 1.0
    assert unchanged_share(flat(0), flat(255)) == 0.0


def test_all_at_once_agrees_with_one_by_one():
    a, b = noise(1), noise(2)
    both = coherence(a, b)
    assert both.correlation == correlation(a, b)
    assert both.unchanged_share == unchanged_share(a, b)
    apart = (a.double() - b.double()).abs() / 255
    assert both.difference == pytest.approx(float(apart.mean()))
    assert both.largest_difference == pytest.approx(float(apart.max()))


def test_memory_layout_does_not_matter():
    a, b = noise(1), noise(2)
    last = [t.permute(1, 2, 0).contiguous().permute(2, 0, 1) for t in (a, b)]
    assert coherence(*last) == coherence(a, b)


def test_a_small_move_is_coherent_and_an_unrelated_picture_is_not():
    scene = Scene(background=Texture(seed=3), camera=Linear((0, 0), (0.1, 0)))
    now, soon = scene.render([0, 0.04], 90, 160)
    (other,) = Scene(background=Texture(seed=4)).render([0], 90, 160)
    assert coherence(now, soon).band == "coherent"
    assert coherence(now, other).band == "incoherent"


def test_pictures_are_not_written_to():
    a, b = noise(1), noise(2)
    coherence(a, b)
    assert torch.equal(a, noise(1))
    assert torch.equal(b, noise(2))


def test_sizes_that_differ_and_a_negative_distance_are_refused():
    with pytest.raises(BadArgument, match="expected one size"):
        coherence(noise(1), noise(1, 36, 48))
    with pytest.raises(BadArgument, match="distance is -1"):
        unchanged_share(noise(1), noise(1), distance=-1.0)
