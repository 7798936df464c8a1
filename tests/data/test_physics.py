"""Physics with a hidden speed."""

import numpy as np
import pytest
import torch

from legato.data.physics import KINDS, Bounce, random_trial, track
from legato.errors import BadArgument


@pytest.mark.parametrize("kind", KINDS)
def test_the_thing_is_tracked_where_it_is_and_stays_in_the_frame(kind: str) -> None:
    for seed in range(5):
        trial = random_trial(torch.Generator().manual_seed(seed), kind)
        seconds = np.linspace(0, 2, 25).tolist()
        found = track(trial.scene.render(seconds, 64, 64))
        truth = trial.scene.positions(seconds)[:, 0]
        assert float((found - truth).abs().max()) < 0.01
        assert float(truth.min()) > 0.08
        assert float(truth.max()) < 0.92


@pytest.mark.parametrize("kind", KINDS)
def test_the_quick_picture_is_the_scene_s(kind: str) -> None:
    trial = random_trial(torch.Generator().manual_seed(3), kind)
    for height, width in ((48, 48), (40, 60)):
        seconds = [0.0, 0.31, 1.7]
        apart = trial.render(seconds, height, width).int() - trial.scene.render(seconds, height, width).int()
        assert int(apart.abs().max()) <= 1


def test_speeds_differ_from_trial_to_trial_by_a_factor() -> None:
    for kind in KINDS:
        speeds = [random_trial(torch.Generator().manual_seed(s), kind).speed for s in range(40)]
        assert max(speeds) > 2.5 * min(speeds)


def test_a_bounce_falls_with_its_gravity_and_comes_back_to_its_height() -> None:
    path = Bounce((0.5, 0.2), 0.8, 3.0)
    fall = path.fall_seconds
    times = torch.tensor([0.0, 0.1, fall, 2 * fall, 3 * fall], dtype=torch.float64)
    y = path(times)[:, 1]
    expected = [0.2, 0.2 + 1.5 * 0.01, 0.8, 0.2, 0.8]
    torch.testing.assert_close(y, torch.tensor(expected, dtype=torch.float64))
    with pytest.raises(BadArgument, match="fall to the floor"):
        Bounce((0.5, 0.9), 0.8, 3.0)


def test_nothing_to_see_is_not_a_number() -> None:
    assert track(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).isnan().all()
